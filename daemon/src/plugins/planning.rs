//! Remediations: what one would do about an alert. Nothing is done yet: a plan is
//! shown, with what of it would be refused.

use api::{PluginRefused, PluginRun};
use contract::{Action, Call, CliMode, Decision, Ended, Incident, Kind, Reply};
use fetch::Guard;
use model::{Alert, Capabilities, DeviceId, PluginName};

use super::Plugins;

impl Plugins {
    /// Asks the remediation `name` about `alert`.
    pub(super) async fn plan_for(
        &self,
        name: &PluginName,
        alert: Alert,
    ) -> Result<PluginRun, PluginRefused> {
        let active = self.running(name)?;
        if active.manifest.kind != Kind::Remediation {
            let why = format!(
                "{name} is a {}: only a remediation plans",
                active.manifest.kind
            );
            return Err(PluginRefused::Conflict(why));
        }
        let inventory = self.inner.store.inventory();
        let device = inventory.device(alert.device);
        let device = device.ok_or_else(|| {
            PluginRefused::Conflict("the alert's device is not there any more".to_owned())
        })?;
        let labels = alert.labels.iter();
        let incident = Incident {
            alert_id: alert.id.to_string(),
            rule_id: alert.rule.0.clone(),
            key: alert.labels.get("key").unwrap_or_default().to_owned(),
            severity: alert.severity.into(),
            since: alert.since.into(),
            summary: alert.summary.clone(),
            attrs: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            device: self.seen(device),
            attempt: 1,
        };
        let decide = Call::Decide {
            incident,
            history: Vec::new(),
        };
        let mut ended = self.call_whole(&active, decide).await;
        note_refusals(&mut ended, alert.device, &active.granted);
        Ok(PluginRun {
            device: alert.device,
            at: crate::clock::now(),
            calls: vec![("decide".to_owned(), ended)],
        })
    }
}

/// Writes into the log of the call which steps would be refused.
fn note_refusals(ended: &mut Ended, device: DeviceId, granted: &Capabilities) {
    let Ok(Reply::Decision(Decision::Run(plan))) = &ended.result else {
        return;
    };
    for step in &plan.steps {
        let actions = std::iter::once(&step.action).chain(&step.undo);
        let mut all: Vec<String> = actions.flat_map(|action| beyond(action, granted)).collect();
        if step.device_id != device.to_string() {
            all.push(format!(
                "it is for device {}, and the alert is not",
                step.device_id
            ));
        }
        for refused in all {
            ended.log.push(contract::LogLine {
                level: contract::LogLevel::Warn,
                message: format!("the step {} would be refused: {refused}", step.id),
                fields: Vec::new(),
            });
        }
    }
}

/// What of an action is not granted.
fn beyond(action: &Action, granted: &Capabilities) -> Vec<String> {
    let refused = |capability: &str, value: &str| {
        let is_refused = !granted.allows(capability, value);
        is_refused.then(|| format!("{value} is not granted as {capability}"))
    };
    match action {
        Action::Cli(cli) => {
            let capability = match cli.mode {
                CliMode::Exec => "cli.exec",
                CliMode::Configure => "cli.configure",
            };
            let commands = cli.commands.iter();
            commands
                .filter_map(|command| match command.chars().any(char::is_control) {
                    true => Some("a command has a control character in it".to_owned()),
                    false => refused(capability, command),
                })
                .collect()
        }
        Action::Http(request) => {
            let guard = Guard {
                patterns: granted.patterns("http").map(str::to_owned).collect(),
                allow_private: false,
            };
            match request.url.parse() {
                Ok(uri) => guard.check(&uri).err().into_iter().collect(),
                Err(_) => vec!["its request has no address".to_owned()],
            }
        }
        Action::SnmpSet(varbinds) => {
            let names = varbinds.iter().map(|varbind| varbind.name.to_string());
            names
                .filter_map(|name| refused("snmp_set", &name))
                .collect()
        }
        Action::WaitS(_) | Action::Check(_) => Vec::new(),
        Action::Extension(extension) => {
            vec![format!("this daemon knows no {}", extension.name)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_beyond_what_was_granted_is_named() {
        let oids = ["1.3.6.1.2.1.2.2.1.7.*".to_owned()].into();
        let granted = Capabilities([("snmp_set".to_owned(), oids)].into());
        let set = |name: &str| {
            let varbind = contract::Varbind {
                name: name.parse().unwrap(),
                value: contract::SnmpValue::Integer(2),
            };
            beyond(&Action::SnmpSet(vec![varbind]), &granted)
        };
        assert!(set("1.3.6.1.2.1.2.2.1.7.10").is_empty());
        assert_eq!(set("1.3.6.1.2.1.2.2.1.70.1").len(), 1);
        assert_eq!(set("1.3.6.1.2.1.1.5.0").len(), 1);
    }
}
