//! The mailer follows its settings and its password.
//!
//! A password may be a secret (`secret://name`), which is set and rotated while
//! the daemon runs, and which OpenBao or Vault may not give just now. So the
//! mailer is made here, whenever one of them changes, and until the password can
//! be had nobody is told by mail and the status says why.

use std::sync::Arc;
use std::time::Duration;

use config::Settings;
use model::SecretName;
use notify::{Mailer, Secret};
use secrets::Secrets;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::failure::{Failure, chain};
use crate::settings;
use crate::status::Board;

/// How often a secret is looked at: a rotated password is in use so soon.
const LOOK: Duration = Duration::from_secs(5);

/// Where the password for the mail server comes from.
#[derive(Clone)]
pub(crate) enum Password {
    /// There is none, or it was in a file.
    Known(Option<Secret>),
    /// A secret.
    Named(SecretName),
}

/// What the mailer is made from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) password: Password,
}

impl Plan {
    fn password(&self, secrets: &Secrets) -> Result<Option<Secret>, String> {
        let name = match &self.password {
            Password::Known(password) => return Ok(password.clone()),
            Password::Named(name) => name,
        };
        let value = secrets.expose(name).map_err(|error| chain(&error))?;
        let text = value.expose_str();
        let text = text.ok_or_else(|| format!("the secret {name} is not UTF-8 text"))?;
        Ok(Some(Secret::new(text.to_owned())))
    }

    /// The mailer, if mail is set up and its password can be had.
    pub(crate) fn mailer(
        &self,
        secrets: &Secrets,
        board: &Board,
    ) -> Result<Option<Mailer>, Failure> {
        match self.password(secrets) {
            Ok(password) => {
                board.note_mail(None);
                settings::mailer_with(&self.settings, password)
            }
            Err(why) => {
                let trouble = format!("nobody is told by mail: {why}");
                if board.note_mail(Some(trouble.clone())) {
                    warn!("{trouble}");
                }
                Ok(None)
            }
        }
    }
}

/// Keeps the mailer as `plan` says until `stop`.
pub(crate) async fn follow(
    mut plan: watch::Receiver<Plan>,
    secrets: Secrets,
    board: Board,
    mailer: watch::Sender<Option<Arc<Mailer>>>,
    stop: CancellationToken,
) {
    let mut in_use = plan.borrow_and_update().password(&secrets);
    loop {
        let replanned = tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = plan.changed() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = plan.borrow_and_update().clone();
        let password = now.password(&secrets);
        if !replanned && password == in_use {
            continue;
        }
        in_use = password;
        // reads certificates and templates
        let (secrets, board) = (secrets.clone(), board.clone());
        let made = tokio::task::spawn_blocking(move || now.mailer(&secrets, &board)).await;
        match made {
            Ok(Ok(new)) => {
                mailer.send_replace(new.map(Arc::new));
                if !replanned {
                    info!("the password for the mail server changed and is in use");
                }
            }
            Ok(Err(failure)) => {
                let why = chain(&failure);
                warn!(error = %why, "the mail settings cannot be used any more: {why}");
            }
            Err(_panicked) => warn!("making the mailer ended by a defect"),
        }
    }
}
