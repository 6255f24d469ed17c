//! `sotp login|logout|context …`.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::World;
use crate::client::{Client, If, look_at_certificate};
use crate::command::{Context as Words, Login};
use crate::contexts::{Book, Context, Contexts, check_name};
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, talk};
use crate::place::{self, Endpoint, Place, Server, ServerUrl, Shown, Source, Where};
use crate::tls::{Fingerprint, Trust};

use super::text::text;

pub(super) async fn login(
    words: &Login,
    world: &World<'_>,
    output: &Output,
) -> Result<(), Trouble> {
    let book = Book::of(world.env)?;
    let goal = Goal::of(words, world, &book.read()?)?;
    let (client, goal) = goal.reach().await?;
    let mut context = goal.context();
    let said = match &world.chosen.token_file {
        Some(file) => with_token(file, words, &goal, &mut context).await?,
        None => with_password(words, &client, &mut context).await?,
    };
    book.change(|known| {
        known.contexts.insert(goal.name.clone(), context.clone());
        known.current = Some(goal.name.clone());
        Ok(())
    })?;
    tell(&said, &context, &goal, output)
}

fn tell(said: &Value, context: &Context, goal: &Goal, output: &Output) -> Result<(), Trouble> {
    let restricted = text(said, "/restricted");
    if output.is_json() {
        output.document(&json!({
            "context": goal.name,
            "server": context.server,
            "user": context.user,
            "restricted": said.get("restricted"),
        }))?;
    } else {
        talk(&format!(
            "signed in as {} at {}; this is the context {} now",
            context.user.as_deref().unwrap_or("the token's service"),
            context.server,
            goal.name
        ));
    }
    if restricted.contains("password") {
        talk("first choose another password: sotp password");
    } else if restricted.contains("totp") {
        talk("first set up an authenticator: sotp totp enable");
    }
    Ok(())
}

/// Where somebody signs in, and what that is called afterwards.
struct Goal {
    name: String,
    at: Where,
    url: ServerUrl,
    trust: Trust,
    /// Whether nobody said yet whom to trust.
    asks: bool,
}

impl Goal {
    fn of(words: &Login, world: &World<'_>, known: &Contexts) -> Result<Goal, Trouble> {
        if world.chosen.socket.is_some() {
            return Err(Trouble::Usage(
                "over the socket nobody signs in: the kernel says who you are".into(),
            ));
        }
        let named = world
            .chosen
            .context
            .clone()
            .or_else(|| (world.env)("SOTP_CONTEXT"));
        let said = words.address.as_ref().or(world.chosen.server.as_ref());
        let address = match (said, &named) {
            (Some(said), _) => Some(said.clone()),
            (None, None) => (world.env)("SOTP_SERVER"),
            (None, Some(_)) => None,
        };
        let (name, url, source) = match address {
            Some(address) => {
                let url: ServerUrl = address.parse().map_err(Trouble::Usage)?;
                let name = match named {
                    Some(name) => name,
                    None => unused_name(&url, known)?,
                };
                (name, url, Source::Typed)
            }
            None => again(named, known)?,
        };
        check_name(&name)?;
        let before = known
            .contexts
            .get(&name)
            .filter(|context| context.server == url.to_string());
        let said = match place::trust(&world.chosen, world.env)? {
            Some(trust) => Some(trust),
            None => before.map(|context| context.trust(&name)).transpose()?,
        };
        let trust = said.unwrap_or(Trust::System);
        Ok(Goal {
            at: at(&url, &trust, source),
            asks: trust == Trust::System,
            name,
            url,
            trust,
        })
    }

    /// A client that knows whom to trust: asked for now, if nobody said.
    async fn reach(mut self) -> Result<(Client, Goal), Trouble> {
        match self.try_out().await {
            Err(Trouble::Untrusted { why, .. }) if self.asks => {
                let seen = look_at_certificate(&self.at, &self.url).await?;
                confirm_certificate(&self.at, &why, seen).await?;
                self.trust = Trust::Pin(seen);
                self.at = at(&self.url, &self.trust, self.at.source.clone());
                Ok((self.try_out().await?, self))
            }
            tried => Ok((tried?, self)),
        }
    }

    async fn try_out(&self) -> Result<Client, Trouble> {
        let client = client(&self.at, Shown::Nothing).await?;
        let setup = client.get_as_nobody("/api/v1/setup").await?.body;
        match setup.get("set_up").and_then(Value::as_bool) {
            Some(false) => Err(Trouble::NotNow(format!(
                "{} is not set up yet\nhint: on the server: sudo sotp setup",
                self.url
            ))),
            _ => Ok(client),
        }
    }

    fn context(&self) -> Context {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Context {
            server: self.url.to_string(),
            fingerprint: match &self.trust {
                Trust::Pin(pin) => Some(pin.to_string()),
                _ => None,
            },
            ca_file: match &self.trust {
                Trust::File(path) => Some(absolute(path).display().to_string()),
                _ => None,
            },
            ..Context::default()
        }
    }
}

fn at(url: &ServerUrl, trust: &Trust, source: Source) -> Where {
    Where {
        endpoint: Endpoint::Https(Server {
            url: url.clone(),
            trust: trust.clone(),
        }),
        source,
    }
}

async fn client(at: &Where, shown: Shown) -> Result<Client, Trouble> {
    let at = at.clone();
    Client::new(Place { at, shown }, None).await
}

/// The server of a context that is there already.
fn again(named: Option<String>, known: &Contexts) -> Result<(String, ServerUrl, Source), Trouble> {
    let Some(name) = named.or_else(|| known.current.clone()) else {
        return Err(Trouble::Usage(
            "at which server? sotp login https://HOST:8443".into(),
        ));
    };
    let url = known.find(&name)?.url(&name)?;
    Ok((name.clone(), url, Source::Context(name)))
}

/// A context is called as its host, unless another server's is.
fn unused_name(url: &ServerUrl, known: &Contexts) -> Result<String, Trouble> {
    let name = url.host.replace(':', "-").trim_matches('-').to_owned();
    match known.contexts.get(&name) {
        Some(context) if context.server != url.to_string() => Err(Trouble::Usage(format!(
            "the context {name} is for {}: say what to call this one: --context NAME",
            context.server
        ))),
        _ => Ok(name),
    }
}

/// Trust on first use: only if somebody sees the fingerprint and says yes.
async fn confirm_certificate(at: &Where, why: &str, seen: Fingerprint) -> Result<(), Trouble> {
    if !input::somebody_is_there() {
        return Err(Trouble::Untrusted {
            at: Box::new(at.clone()),
            why: format!("{why}; its SHA-256 is {seen}"),
        });
    }
    talk(&format!(
        "Who this is cannot be told: {why}.\nThe SHA-256 of its certificate is\n  {seen}\nCompare it with what `sudo sotp setup` showed on the server."
    ));
    match input::ask("Trust it from now on? Type yes: ".into())
        .await?
        .as_str()
    {
        "yes" => Ok(()),
        _ => Err(Trouble::NeedsConfirmation(
            "the certificate is not trusted; nothing was sent".into(),
        )),
    }
}

async fn with_password(
    words: &Login,
    client: &Client,
    context: &mut Context,
) -> Result<Value, Trouble> {
    let user = match &words.user {
        Some(user) => user.clone(),
        None if input::somebody_is_there() => input::ask("User: ".into()).await?,
        None => return Err(Trouble::Usage("who signs in? --user NAME".into())),
    };
    let file = words.password_file.as_deref();
    let password = input::password(file, "Password: ", "--password-file FILE").await?;
    let code = match (&words.code, &words.code_file) {
        (Some(code), _) => Some(code.clone()),
        (None, Some(file)) => Some(input::line(file, "the code").await?),
        (None, None) => None,
    };
    let asked = code.is_some();
    let granted = match sign_in(client, &user, &password, code).await {
        Err(trouble) if !asked && wants_a_code(&trouble) => {
            let code = ask_for_code(trouble).await?;
            sign_in(client, &user, &password, Some(code)).await?
        }
        other => other?,
    };
    context.keep(&granted, Timestamp::now());
    let named = ["/user/name", "/user"].map(|pointer| text(&granted, pointer));
    context.user = named
        .into_iter()
        .find(|name| !name.is_empty())
        .or(Some(user));
    Ok(granted)
}

async fn sign_in(
    client: &Client,
    user: &str,
    password: &str,
    code: Option<String>,
) -> Result<Value, Trouble> {
    let mut body = json!({ "user": user, "password": password });
    if let Some(code) = code {
        body["code"] = json!(code);
    }
    Ok(client.post_as_nobody("/api/v1/sessions", &body).await?.body)
}

fn wants_a_code(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused { problem, .. } => text(problem, "/type").ends_with("code-needed"),
        _ => false,
    }
}

async fn ask_for_code(trouble: Trouble) -> Result<String, Trouble> {
    match input::somebody_is_there() {
        true => input::ask("Code: ".into()).await,
        false => Err(trouble),
    }
}

/// A service's token is tried once before it is kept.
async fn with_token(
    file: &Path,
    words: &Login,
    goal: &Goal,
    context: &mut Context,
) -> Result<Value, Trouble> {
    if words.user.is_some() || words.password_file.is_some() || words.code.is_some() {
        return Err(Trouble::Usage(
            "either a token or a user with a password signs in, not both".into(),
        ));
    }
    let token = input::line(file, "the token").await?;
    let me = trial(goal, &token).await?;
    context.api_token = Some(token);
    Ok(me)
}

/// Asks who we are with `token`.
async fn trial(goal: &Goal, token: &str) -> Result<Value, Trouble> {
    let place = Place {
        at: goal.at.clone(),
        shown: Shown::Nothing,
    };
    let client = Client::with_token(place, token.to_owned())?;
    Ok(client.get("/api/v1/me").await?.body)
}

pub(super) async fn logout(world: &World<'_>) -> Result<(), Trouble> {
    let book = Book::of(world.env)?;
    let place = Place::choose(&world.chosen, world.env, &|| book.read())?;
    let Some(name) = place.at.context().map(str::to_owned) else {
        return Err(Trouble::Usage(format!(
            "nobody is signed in at {}: only a context can be signed out of",
            place.at
        )));
    };
    let context = book.read()?.find(&name)?.clone();
    let told = match context.refresh_token {
        Some(_) => end_session(&name, place, &book).await,
        None => Ok(()),
    };
    book.change(|known| {
        known.find_mut(&name)?.forget();
        Ok(())
    })?;
    book.clean_up(&name);
    match told {
        Ok(()) => {
            talk(&format!(
                "signed out of {}; to sign in again: sotp login --context {name}",
                context.server
            ));
            Ok(())
        }
        Err(trouble) => Err(Trouble::Partly(format!(
            "signed out here, but the server does not know: the session ends there by itself\n{trouble}"
        ))),
    }
}

async fn end_session(name: &str, place: Place, book: &Book) -> Result<(), Trouble> {
    let place = Place {
        shown: Shown::Context(name.to_owned()),
        ..place
    };
    let client = Client::new(place, Some(book.clone())).await?;
    match client.delete("/api/v1/me/session", If::Always).await {
        // it is over already
        Ok(_) | Err(Trouble::NotSignedIn { .. }) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

const CONTEXTS: [Column; 6] = [
    column!("NAME", 0, "/name"),
    column!("CURRENT", 1, "/current"),
    column!("SERVER", 0, "/server"),
    column!("USER", 1, "/user"),
    column!("SIGNED IN", 2, "/signed_in"),
    column!("CERTIFICATE", 3, "/fingerprint"),
];

pub(super) fn contexts(words: &Words, world: &World<'_>, output: &Output) -> Result<(), Trouble> {
    let book = Book::of(world.env)?;
    match words {
        Words::Ls => {
            let known = book.read()?;
            let rows: Vec<_> = known
                .contexts
                .keys()
                .map(|name| view(name, &known))
                .collect();
            output.list(
                "contexts",
                &rows,
                &CONTEXTS,
                "no contexts; make one: sotp login https://HOST:8443",
            )
        }
        Words::Use { name } => {
            book.change(|known| {
                known.find(name)?;
                known.current = Some(name.clone());
                Ok(())
            })?;
            talk(&format!(
                "{name} is meant from now on, if nothing else is said"
            ));
            Ok(())
        }
        Words::Show { name } => {
            let known = book.read()?;
            let current = || {
                let none = "no context is current: sotp context ls, sotp context use NAME";
                known
                    .current
                    .clone()
                    .ok_or_else(|| Trouble::Usage(none.into()))
            };
            let name = name.clone().map_or_else(current, Ok)?;
            known.find(&name)?;
            show(&view(&name, &known), output)
        }
        Words::Rm { name } => {
            book.change(|known| {
                known.find(name)?;
                known.contexts.remove(name);
                known.current.take_if(|current| current == name);
                Ok(())
            })?;
            book.clean_up(name);
            talk(&format!("{name} is forgotten"));
            Ok(())
        }
    }
}

fn show(view: &Value, output: &Output) -> Result<(), Trouble> {
    output.item(
        view,
        &[
            ("name", text(view, "/name")),
            ("current", text(view, "/current")),
            ("server", text(view, "/server")),
            ("user", text(view, "/user")),
            ("signed in", text(view, "/signed_in")),
            ("by a token", text(view, "/api_token")),
            ("certificate", text(view, "/fingerprint")),
            ("issuers", text(view, "/ca_file")),
        ],
    )
}

/// What may be seen of a context.
fn view(name: &str, known: &Contexts) -> Value {
    let Some(context) = known.contexts.get(name) else {
        return Value::Null;
    };
    json!({
        "name": name,
        "current": known.current.as_deref() == Some(name),
        "server": context.server,
        "user": context.user,
        "signed_in": context.is_signed_in(),
        "api_token": context.api_token.is_some(),
        "fingerprint": context.fingerprint,
        "ca_file": context.ca_file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_context_has_no_token() {
        let mut known = Contexts::default();
        let mut context = Context {
            server: "https://h:1".into(),
            api_token: Some("sotp_secret".into()),
            ..Context::default()
        };
        context.keep(
            &json!({"access_token": "secret", "refresh_token": "sotpr_secret", "expires_in": 9}),
            Timestamp::UNIX_EPOCH,
        );
        known.contexts.insert("a".into(), context);
        let shown = view("a", &known).to_string();
        assert!(
            !shown.contains("secret") && shown.contains("\"signed_in\":true"),
            "{shown}"
        );
    }

    #[test]
    fn a_context_is_called_as_its_host_unless_that_is_taken() {
        let mut known = Contexts::default();
        let url: ServerUrl = "https://noc.example:1".parse().unwrap();
        assert_eq!(unused_name(&url, &known).unwrap(), "noc.example");
        let other = Context {
            server: "https://noc.example:2".into(),
            ..Context::default()
        };
        known.contexts.insert("noc.example".into(), other);
        let text = unused_name(&url, &known).unwrap_err().to_string();
        assert!(
            text.contains("https://noc.example:2") && text.contains("--context"),
            "{text}"
        );
        let v6: ServerUrl = "https://[::1]:1".parse().unwrap();
        assert_eq!(unused_name(&v6, &known).unwrap(), "1");
    }
}
