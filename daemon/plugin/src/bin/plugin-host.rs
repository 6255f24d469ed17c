//! The program of this crate's tests: a host with plugins that do what no
//! language would let them do, and hosts that were taken over.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use contract::{
    Call, Ended, Failure, Fault, FaultClass, LogLevel, Output, Plugin, PluginError, Reply, Session,
    Usage,
};

fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    match (words.next().as_deref(), name.as_str()) {
        (Some("plugin-host"), "plugin-host") => plugin::testing::host_main_with(make),
        (Some("plugin-host"), evil) => taken_over(evil),
        (Some("plugin-compile"), "plugin-host") => plugin::compile_main(),
        (Some("plugin-compile"), "spins") => plugin::testing::compile_main_with(|_, _| spin()),
        (Some("plugin-compile"), "sleeps") => plugin::testing::compile_main_with(|_, _| sleep()),
        (Some("plugin-compile"), "eats") => plugin::testing::compile_main_with(|_, _| eat()),
        (Some("plugin-compile"), "recurses") => {
            plugin::testing::compile_main_with(|_, _| Ok(vec![recurse()]))
        }
        (Some("plugin-compile"), _) => {
            plugin::testing::compile_main_with(|component, _| Ok(component.to_vec()))
        }
        (Some("plugin-probe"), _) => probe(),
        _ => ExitCode::FAILURE,
    }
}

/// Tells what the sandbox refuses.
#[expect(clippy::print_stdout, reason = "the test reads it")]
fn probe() -> ExitCode {
    let (tried, missing) = plugin::testing::probe();
    for (what, refused) in tried {
        println!("{what}: {}", if refused { "refused" } else { "ALLOWED" });
    }
    println!("missing: {missing:?}");
    ExitCode::SUCCESS
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn sleep() -> ! {
    loop {
        std::thread::park();
    }
}

fn eat() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 16 << 20]);
    }
}

#[expect(unconditional_recursion, reason = "it is to end the process")]
fn recurse() -> u8 {
    let local = std::hint::black_box([1_u8; 4096]);
    local[0].wrapping_add(recurse())
}

/// A plugin of a few words: what it answers, or what it does to the host.
struct Fake(Vec<String>);

fn make(file: &str, source: &str) -> Option<Box<dyn Plugin>> {
    let words = source.split_whitespace().map(str::to_owned).collect();
    let fake = Fake(words);
    if fake.word(0) == "kills-at-load" {
        std::process::abort();
    }
    (file == "fake").then(|| -> Box<dyn Plugin> { Box::new(fake) })
}

impl Fake {
    fn word(&self, place: usize) -> &str {
        self.0.get(place).map_or("", String::as_str)
    }

    fn number(&self, place: usize) -> u64 {
        self.word(place).parse().unwrap_or(0)
    }

    fn output(&self, text: impl Into<String>) -> Result<Reply, Failure> {
        Ok(Reply::Output(Output {
            warnings: vec![text.into()],
            ..Output::default()
        }))
    }

    fn done(&self, call: &Call, session: &mut Session) -> Result<Reply, Failure> {
        let (Call::Parse(input), false) = (call, matches!(call, Call::Describe)) else {
            return Ok(Reply::Metrics(contract::MetricDescriptor::default()));
        };
        let text = match &input.payload {
            contract::Payload::Text(text) => text.as_str(),
            _ => "",
        };
        match self.word(0) {
            "says" => self.output(self.word(1)),
            "echoes" => self.output(text),
            "sleeps" => {
                wait(Duration::from_millis(self.number(1)));
                self.output("slept")
            }
            "dies-of" if text == self.word(1) => std::process::abort(),
            "panics" => panic!("on purpose"),
            "breaks" if text != "good" => Err(Fault::new(FaultClass::Trap, "unreachable").into()),
            "unset" => Err(PluginError::Config("no address".to_owned()).into()),
            "logs" => {
                for n in 0..self.number(1) {
                    session.log(LogLevel::Info, format!("line {n}"), Vec::new())?;
                }
                self.output("logged")
            }
            "keeps" => match session.kv_get("k")? {
                Some(value) => self.output(value.to_string()),
                None => self.output("nothing"),
            },
            "sends" => Ok(Reply::Output(Output {
                warnings: vec!["x".repeat(4096); usize::try_from(self.number(1)).unwrap_or(0)],
                ..Output::default()
            })),
            "measures" => Ok(Reply::Output(Output {
                rows: vec![contract::Row {
                    labels: Vec::new(),
                    values: vec![(7, 1.0)],
                }],
                ..Output::default()
            })),
            _ => self.output("fine"),
        }
    }
}

/// Waits without any regard for the session.
fn wait(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

impl Plugin for Fake {
    fn call(&self, call: Call, mut session: Session) -> Ended {
        let result = self.done(&call, &mut session);
        session.end(result, Usage::default())
    }
}

/// A frame, as whoever took the host over would write it.
fn frame(tag: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(17 + body.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_le_bytes().to_vec();
    frame.push(tag);
    frame.extend(id.to_le_bytes());
    frame.extend(0_u64.to_le_bytes());
    frame.extend(body);
    frame
}

/// Behaves for a moment, then does `evil`.
fn taken_over(evil: &str) -> ExitCode {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let mut socket = UnixStream::from(socket);
    let hello = [1, 0]; // the protocol, and nothing missing
    let loaded = postcard::to_stdvec(&Ok::<_, Fault>(Reply::Metrics(Default::default())));
    let mut send = |frame: Vec<u8>| socket.write_all(&frame);
    let _sent = send(frame(101, 0, &hello));
    let mut input = std::io::stdin().lock();
    let mut head = [0; 21];
    while input.read_exact(&mut head).is_ok() {
        let length = head.first_chunk().map_or(17, |n| u32::from_le_bytes(*n));
        let mut body = vec![0; length as usize - 17];
        if input.read_exact(&mut body).is_err() {
            break;
        }
        let word = |at: usize| {
            head[at..at + 8]
                .iter()
                .rev()
                .fold(0, |n, b| n << 8 | u64::from(*b))
        };
        let _sent = match (head[4], evil) {
            (2, _) => send(frame(102, word(5), loaded.as_deref().unwrap_or_default())),
            (3, "unknown-id") => send(frame(103, 999_999, &[])),
            (3, "wrong-kind") => send(frame(77, word(5), &[])),
            (3, "garbage") => send(vec![0xff; 64]),
            (3, "oversized") => send((65_u32 << 20).to_le_bytes().to_vec()),
            (3, "unreadable") => send(frame(103, word(5), &[9, 9, 9])),
            (3, "wrong-reply") => {
                let ended = Ended {
                    result: Ok(Reply::Nothing),
                    log: Vec::new(),
                    kv: Vec::new(),
                    usage: Usage::default(),
                };
                send(frame(
                    103,
                    word(5),
                    &postcard::to_stdvec(&ended).unwrap_or_default(),
                ))
            }
            (3, "asks") => {
                let ask = contract::HostAsk::Device("1".to_owned());
                let ask = postcard::to_stdvec(&ask).unwrap_or_default();
                send(frame(104, word(5), &ask)).and_then(|()| send(frame(104, word(5), &ask)))
            }
            (3, "asks-large") => {
                let ask = contract::HostAsk::Device("x".repeat(64 << 10));
                let ask = postcard::to_stdvec(&ask).unwrap_or_default();
                send(frame(104, word(5), &ask))
            }
            // the call, and then each answer
            (3 | 4, "asks-on") => {
                let ask = contract::HostAsk::Device("1".to_owned());
                let ask = postcard::to_stdvec(&ask).unwrap_or_default();
                send(frame(104, word(5), &ask))
            }
            (3, "loaded-twice") => {
                send(frame(102, word(13), loaded.as_deref().unwrap_or_default()))
            }
            _ => Ok(()),
        };
    }
    ExitCode::SUCCESS
}
