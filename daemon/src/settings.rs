//! From the settings file to what each stage wants to hear.

use std::path::{Path, PathBuf};

use config::{LogLevel, Settings};
use model::Rule;
use tracing::level_filters::LevelFilter;

use crate::failure::Failure;
use crate::https::{self, Tls};
use crate::mail::{Password, Plan};
use crate::poll::Pace;
use crate::sealing;

/// Settings, rules and secrets, read together: all of it is taken, or none.
pub(crate) struct Everything {
    pub(crate) rules: Vec<Rule>,
    pub(crate) tls: Option<Tls>,
    /// What the secrets are opened with.
    pub(crate) secrets: secrets::SecretsSettings,
    /// The settings, and the password that mails are sent with.
    pub(crate) mail: Plan,
}

impl Everything {
    /// Reads the file at `path`, the rules and the secret that it names.
    pub(crate) fn read(path: &Path) -> Result<Everything, Failure> {
        let settings = read(path)?.settings;
        let rules = config::read_rules(&settings.rules.dir).map_err(Failure::Settings)?;
        let password = password(&settings)?;
        // with a stand-in for a password that is not known yet
        check_mail(&settings)?;
        Ok(Everything {
            rules,
            tls: https::read(&settings)?,
            secrets: sealing::read(&settings)?,
            mail: Plan { settings, password },
        })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.mail.settings
    }

    pub(crate) fn log_level(&self) -> LevelFilter {
        log_level(self.settings())
    }
}

/// Reads the settings alone.
pub(crate) fn read(path: &Path) -> Result<config::Loaded, Failure> {
    config::read(path, credentials_directory().as_deref()).map_err(Failure::Settings)
}

/// Where systemd put our secrets (systemd.exec(5), CREDENTIALS).
pub(crate) fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

pub(crate) fn log_level(settings: &Settings) -> LevelFilter {
    match settings.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Checks the mail settings without their secret: addresses, certificates and
/// templates. Says what of the templates cannot be used.
pub(crate) fn check_mail(settings: &Settings) -> Result<Vec<String>, Failure> {
    let login = settings.mail.as_ref().filter(|mail| mail.user.is_some());
    if let Some(mail) = login {
        match password_in_a_file(mail) {
            // whoever checks by hand need not be the daemon's user
            Err(Failure::Secret(config::SecretError::Read { source, .. }))
                if source.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
    }
    let stand_in = login.map(|_| notify::Secret::new("not the real one".to_owned()));
    let mailer = mailer_with(settings, stand_in)?;
    Ok(mailer.map_or(Vec::new(), |mailer| mailer.template_problems().to_vec()))
}

/// Where the password for the mail server comes from; reads its file, if it is in
/// one.
fn password(settings: &Settings) -> Result<Password, Failure> {
    let Some(mail) = settings.mail.as_ref().filter(|mail| mail.user.is_some()) else {
        return Ok(Password::Known(None));
    };
    match &mail.password {
        Some(name) => Ok(Password::Named(name.clone())),
        None => password_in_a_file(mail).map(Password::Known),
    }
}

fn password_in_a_file(mail: &config::MailSettings) -> Result<Option<notify::Secret>, Failure> {
    let Some(file) = &mail.password_file else {
        return Ok(None);
    };
    let secret = config::read_secret_file(file, credentials_directory().as_deref())
        .map_err(Failure::Secret)?;
    Ok(Some(notify::Secret::new(secret.expose().to_owned())))
}

pub(crate) fn mailer_with(
    settings: &Settings,
    password: Option<notify::Secret>,
) -> Result<Option<notify::Mailer>, Failure> {
    let Some(mail) = &settings.mail else {
        return Ok(None);
    };
    notify::Mailer::new(notify::MailSettings {
        server: mail.server.clone(),
        port: mail.port,
        tls: match mail.tls {
            config::Tls::StartTls => notify::Tls::StartTls,
            config::Tls::Implicit => notify::Tls::Implicit,
            config::Tls::None => notify::Tls::None,
        },
        ca_file: mail.ca_file.clone(),
        user: mail.user.clone(),
        password,
        from: mail.from.clone(),
        templates: Some(mail.templates.clone()),
        timeout: mail.timeout,
        retry_min: mail.retry_min,
        retry_max: mail.retry_max,
        host_name: host_name(),
    })
    .map(Some)
    .map_err(Failure::Mail)
}

/// This machine's name, for the mail server and in Message-IDs.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

pub(crate) fn recipients(settings: &Settings) -> Vec<String> {
    settings
        .mail
        .as_ref()
        .map(|mail| mail.to.clone())
        .unwrap_or_default()
}

pub(crate) fn pace(settings: &Settings) -> Pace {
    Pace {
        icmp_every: settings.icmp.every,
        snmp_every: settings.snmp.every,
        snmp_port: settings.snmp.port,
        backoff_max: settings.schedule.backoff_max,
        snmp_in_flight: settings.snmp.in_flight,
    }
}

pub(crate) fn ping(settings: &Settings) -> collect::PingSettings {
    collect::PingSettings {
        probes: settings.icmp.probes,
        timeout: settings.icmp.timeout,
        gap: settings.icmp.gap,
        in_flight: settings.icmp.in_flight,
        receive_buffer: settings.icmp.receive_buffer,
    }
}

pub(crate) fn snmp(settings: &Settings) -> collect::SnmpSettings {
    collect::SnmpSettings {
        timeout: settings.snmp.timeout,
        retries: settings.snmp.retries,
        max_repetitions: settings.snmp.max_repetitions,
        sockets: settings.snmp.sockets,
        in_flight: settings.snmp.in_flight,
    }
}

pub(crate) fn dns(settings: &Settings) -> collect::DnsSettings {
    collect::DnsSettings {
        servers: settings.dns.servers.clone(),
        timeout: settings.dns.timeout,
        in_flight: settings.dns.in_flight,
        refresh: settings.dns.refresh,
    }
}

pub(crate) fn store(settings: &Settings) -> store::StoreOptions {
    store::StoreOptions {
        commit_every: settings.store.commit_every,
        backlog_bytes: settings.store.backlog,
        ballast_bytes: settings.store.ballast,
        keep_samples: settings.store.keep_samples,
        keep_15m: settings.store.keep_15m,
        keep_1h: settings.store.keep_1h,
        disk_budget: settings.store.disk_budget,
        series_per_device: settings.store.series_per_device,
        keep_alerts: settings.store.keep_alerts,
        keep_audit: settings.store.keep_audit,
        ..store::StoreOptions::at(settings.store.path.clone())
    }
}

pub(crate) fn api(settings: &Settings) -> api::Limits {
    api::Limits {
        connections: settings.api.connections,
        header_timeout: settings.api.header_timeout,
        request_timeout: settings.api.request_timeout,
        body_bytes: settings.api.body,
        requests_per_minute: settings.api.requests_per_minute,
        anonymous_per_minute: settings.api.anonymous_per_minute,
        trusted_proxies: settings.api.trusted_proxies.clone(),
        cors_origins: settings.api.cors_origins.clone(),
        ..api::Limits::default()
    }
}

/// How people and services get in.
pub(crate) fn access(settings: &Settings) -> access::AccessSettings {
    access::AccessSettings {
        access_ttl: settings.access.access_ttl,
        refresh_idle: settings.access.refresh_idle,
        session_max: settings.access.session_max,
        min_password: settings.access.min_password,
        socket_role: settings.api.socket_role.0,
        issuer: format!("https://{}", https::name(settings)),
        oidc: settings.oidc.as_ref().map(oidc),
    }
}

fn oidc(oidc: &config::OidcSettings) -> access::OidcSettings {
    access::OidcSettings {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        client_secret: oidc.client_secret.clone(),
        redirect: oidc.redirect.clone(),
        scopes: oidc.scopes.clone(),
        groups_claim: oidc.groups_claim.clone(),
        user_claim: oidc.user_claim.clone(),
        groups: oidc.groups.clone(),
        ca_file: oidc.ca_file.clone(),
        create_users: oidc.create_users,
        trust_mfa: oidc.trust_mfa,
    }
}
