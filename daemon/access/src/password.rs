//! Passwords: which are taken, and how they are kept.
//!
//! After OWASP ASVS 5.0, 6.2: long enough, not one that others guess, and no
//! rules on which characters. Kept as argon2id with the cost of its appendix C.
//! A hash takes 19 MiB and tens of milliseconds, so two are computed at once,
//! and a bounded number of attempts wait for that; who is beyond it is told to
//! come back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use model::PasswordHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zxcvbn::Score;
use zxcvbn::feedback::Feedback;

use crate::text::{random, random_base62};
use crate::{AccessError, SecretText};

/// Characters of a password; longer ones are slow to judge and nobody needs
/// them.
const MAX_PASSWORD: usize = 128;

/// Bytes beyond which a password at sign-in is not even looked at: the longest
/// that anybody can have.
const MAX_PASSWORD_BYTES: usize = MAX_PASSWORD * 4;

/// Hashes that are computed at once: their memory and the processors are for
/// others too.
const HASHES_AT_ONCE: usize = 2;

/// Attempts that wait for one.
const WAITING: usize = 64;

/// Words that are guessed first here.
const LOCAL_WORDS: [&str; 4] = ["sotp", "network", "monitoring", "appliance"];

/// Whether `password` is taken for a person who has these names.
///
/// # Errors
///
/// [`AccessError::WeakPassword`] says what is wrong with it.
pub(crate) fn check(password: &str, names: &[&str], min: usize) -> Result<(), AccessError> {
    let weak = |why: String| Err(AccessError::WeakPassword { why });
    let length = password.chars().count();
    if length < min {
        return weak(format!("it has {length} characters and needs {min}"));
    }
    if length > MAX_PASSWORD {
        return weak(format!(
            "it has {length} characters, and at most {MAX_PASSWORD} are taken"
        ));
    }
    if password.contains('\0') {
        return weak("it contains a character that nobody can type".to_owned());
    }
    let known: Vec<&str> = names.iter().copied().chain(LOCAL_WORDS).collect();
    let judged = zxcvbn::zxcvbn(password, &known);
    if judged.score() < Score::Three {
        let warning = judged.feedback().and_then(Feedback::warning);
        return weak(warning.map_or_else(
            || "it is easy to guess; a few uncommon words are not".to_owned(),
            |warning| warning.to_string(),
        ));
    }
    let rest = without(password, &known);
    if rest != password.to_lowercase() && zxcvbn::zxcvbn(&rest, &[]).score() < Score::Three {
        return weak("without names that everybody knows it is easy to guess".to_owned());
    }
    Ok(())
}

/// What is left of `password` without these words.
fn without(password: &str, words: &[&str]) -> String {
    let mut rest = password.to_lowercase();
    let parts = words
        .iter()
        .flat_map(|word| word.split([' ', '.', '@', '-']));
    for word in parts.filter(|word| word.len() >= 3) {
        rest = rest.replace(&word.to_lowercase(), "");
    }
    rest
}

/// A password that nobody chose.
pub(crate) fn make_password() -> SecretText {
    SecretText::new(random_base62(20).to_string())
}

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// KiB.
    memory: u32,
    /// Rounds.
    time: u32,
}

impl Cost {
    /// 19 MiB twice: a row of ASVS 5.0, appendix C.
    pub(crate) const USUAL: Cost = Cost {
        memory: 19_456,
        time: 2,
    };

    /// As little as there is, so that tests of other things are fast.
    #[cfg(test)]
    pub(crate) const LEAST: Cost = Cost { memory: 8, time: 1 };

    /// Enough that many at once have to wait for each other.
    #[cfg(test)]
    pub(crate) const SOME: Cost = Cost {
        memory: 2048,
        time: 1,
    };

    fn params(self) -> Params {
        Params::new(self.memory, self.time, 1, None).expect("the costs above are within the limits")
    }
}

/// Computes hashes, few at a time.
#[derive(Debug)]
pub(crate) struct Hasher {
    cost: Cost,
    threads: Threads,
    running: Arc<Semaphore>,
    room: Arc<Semaphore>,
    counts: Arc<Counts>,
    nobody: PasswordHash,
}

/// What the hasher did, and does.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    done: AtomicU64,
    running: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Hasher {
    /// Blocks for one hash.
    pub(crate) fn new(cost: Cost) -> Hasher {
        let nobody = compute(cost, random_base62(32).as_bytes());
        Hasher {
            cost,
            threads: Threads::start(),
            running: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            room: Arc::new(Semaphore::new(HASHES_AT_ONCE + WAITING)),
            counts: Arc::default(),
            nobody,
        }
    }

    /// Whether `password` is the one of `hash`; without a hash it is wrong,
    /// after as much work.
    ///
    /// # Errors
    ///
    /// [`AccessError::TooBusy`].
    pub(crate) async fn verify(
        &self,
        password: &SecretText,
        hash: Option<&PasswordHash>,
    ) -> Result<bool, AccessError> {
        let too_long = password.expose().len() > MAX_PASSWORD_BYTES;
        let known = hash.is_some() && !too_long;
        let hash = hash.unwrap_or(&self.nobody).clone();
        let password = match too_long {
            true => SecretText::new(String::new()),
            false => password.clone(),
        };
        let right = self
            .work(move |_| matches(&hash, password.expose().as_bytes()))
            .await?;
        Ok(right && known)
    }

    /// The hash of `password`.
    ///
    /// # Errors
    ///
    /// [`AccessError::TooBusy`].
    pub(crate) async fn hash(&self, password: &SecretText) -> Result<PasswordHash, AccessError> {
        let password = password.clone();
        self.work(move |cost| compute(cost, password.expose().as_bytes()))
            .await
    }

    /// Whether `hash` was made with another cost than today's.
    pub(crate) fn is_outdated(&self, hash: &PasswordHash) -> bool {
        let wanted = self.cost.params();
        Phc::new(&hash.0)
            .ok()
            .and_then(|hash| Params::try_from(&hash).ok())
            .is_none_or(|found| {
                (found.m_cost(), found.t_cost(), found.p_cost())
                    != (wanted.m_cost(), wanted.t_cost(), wanted.p_cost())
            })
    }

    /// Hashes that were computed.
    pub(crate) fn done(&self) -> u64 {
        self.counts.done.load(Ordering::Relaxed)
    }

    /// Attempts that wait.
    pub(crate) fn waiting(&self) -> usize {
        let inside = HASHES_AT_ONCE + WAITING - self.room.available_permits();
        inside.saturating_sub(self.counts.running.load(Ordering::Relaxed))
    }

    /// The most that were ever computed at once.
    #[cfg(test)]
    pub(crate) fn most_at_once(&self) -> usize {
        self.counts.most_at_once.load(Ordering::Relaxed)
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(Cost) -> T + Send + 'static,
    ) -> Result<T, AccessError> {
        let room = self.room.clone().try_acquire_owned();
        let room = room.map_err(|_full| AccessError::TooBusy)?;
        let turn = self.running.clone().acquire_owned().await;
        let turn = turn.map_err(|_closed| AccessError::TooBusy)?;
        let (cost, counts) = (self.cost, self.counts.clone());
        let (answer, told) = oneshot::channel();
        // the permits go with the work: it cannot be taken back when whoever
        // asked for it hangs up
        self.threads.give(Box::new(move || {
            let permits: [OwnedSemaphorePermit; 2] = [room, turn];
            let running = counts.running.fetch_add(1, Ordering::Relaxed) + 1;
            counts.most_at_once.fetch_max(running, Ordering::Relaxed);
            let result = job(cost);
            counts.running.fetch_sub(1, Ordering::Relaxed);
            counts.done.fetch_add(1, Ordering::Relaxed);
            drop(permits);
            // whoever asked may be gone
            let _ = answer.send(result);
        }))?;
        told.await.map_err(|_ended| AccessError::TooBusy)
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// The threads that hash. The blocking pool's would do the work as well, but there
/// are dozens of them, and the allocator keeps for each the memory that one hash
/// takes: a storm of sign-ins would cost hundreds of MiB for good.
#[derive(Debug)]
struct Threads(SyncSender<Work>);

impl Threads {
    fn start() -> Threads {
        // permits bound what is given; one that ends gives its permit back first
        let (give, take) = mpsc::sync_channel::<Work>(2 * HASHES_AT_ONCE);
        let take = Arc::new(Mutex::new(take));
        for number in 1..=HASHES_AT_ONCE {
            let take = Arc::clone(&take);
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || hash_what_comes(&take))
                .expect("the system has room for two threads at the start");
        }
        Threads(give)
    }

    fn give(&self, work: Work) -> Result<(), AccessError> {
        self.0.try_send(work).map_err(|_full| AccessError::TooBusy)
    }
}

/// Works until nobody can give work any more.
fn hash_what_comes(take: &Mutex<Receiver<Work>>) {
    loop {
        let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // a defect in one hash must not end the thread for all others
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

fn compute(cost: Cost, password: &[u8]) -> PasswordHash {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.params());
    let salt = random::<16>();
    let hash: Phc = argon2
        .hash_password_with_salt(password, salt.as_slice())
        .expect("salt and password are within the limits");
    PasswordHash(hash.to_string())
}

fn matches(hash: &PasswordHash, password: &[u8]) -> bool {
    Phc::new(&hash.0).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(password: &str) -> String {
        match check(password, &["jane", "Jane Doe"], 12) {
            Ok(()) => "taken".to_owned(),
            Err(AccessError::WeakPassword { why }) => why,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_password_that_others_guess_is_not_taken() {
        for bad in [
            "password1234",
            "PasswordPassword",
            "qwertyuiop123",
            "aaaaaaaaaaaaaa",
            "123456789012",
            "janejanejane1",
            "sotpsotpsotp",
            "jane-sotp-2026",
            "letmeinletmein",
            "iloveyou123!",
        ] {
            assert_ne!(why(bad), "taken", "{bad}");
        }
    }

    #[test]
    fn a_password_needs_length_and_no_particular_characters() {
        assert_eq!(why("short-1A$"), "it has 9 characters and needs 12");
        assert_eq!(why("wolke gabel marder"), "taken");
        assert_eq!(why("köder-straße-lüfter"), "taken");
        assert_eq!(why("zx9vkq27hwpl"), "taken");
        assert!(why(&"wolke gabel ".repeat(11)).contains("at most 128"));
        assert_eq!(why(&format!("wolke gabel {}", "#ü".repeat(58))), "taken");
    }

    #[test]
    fn a_made_password_is_taken_and_never_the_same() {
        let (one, other) = (make_password(), make_password());
        assert_ne!(one, other);
        assert_eq!(why(one.expose()), "taken");
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_alone() {
        let hasher = Hasher::new(Cost::LEAST);
        let (right, wrong) = (make_password(), make_password());
        let hash = hasher.hash(&right).await.unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert!(hasher.verify(&right, Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&wrong, Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&right, None).await.unwrap());
        assert_eq!(hasher.done(), 4, "without a hash the work is the same");
    }

    #[tokio::test]
    async fn a_password_longer_than_any_costs_one_hash_and_is_wrong() {
        let hasher = Hasher::new(Cost::LEAST);
        let empty = hasher.hash(&SecretText::new(String::new())).await.unwrap();
        let long = SecretText::new("x".repeat(1 << 20));
        assert!(!hasher.verify(&long, Some(&empty)).await.unwrap());
        assert_eq!(hasher.done(), 2);
    }

    #[test]
    fn a_hash_of_another_cost_is_outdated() {
        let (usual, least) = (Hasher::new(Cost::USUAL), Hasher::new(Cost::LEAST));
        assert!(
            usual
                .nobody
                .0
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
        );
        assert!(!usual.is_outdated(&usual.nobody) && usual.is_outdated(&least.nobody));
        assert!(usual.is_outdated(&PasswordHash("nonsense".to_owned())));
    }
}
