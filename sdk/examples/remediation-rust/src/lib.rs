//! What hangs at a port that feeds it is turned off and on again
//! (POWER-ETHERNET-MIB, RFC 3621).

use sotp_plugin::prelude::*;

/// pethPsePortAdminEnable
const ADMIN_ENABLE: &str = "1.3.6.1.2.1.105.1.1.1.3";

struct PoeCycle;

impl Remediation for PoeCycle {
    fn decide(incident: Incident, history: Vec<Stage>) -> Result<Decision> {
        if !history.is_empty() {
            return Ok(Decision::Escalate(
                "it was turned off and on already".into(),
            ));
        }
        let Some(port) = incident.attr("poe_port") else {
            return Ok(Decision::GiveUp("the alert names no poe_port".into()));
        };
        let switch = &incident.device.id;
        let admin = format!("{ADMIN_ENABLE}.1.{port}");
        let (off, on) = (Action::set(&admin, 2), Action::set(&admin, 1));
        let up = Check {
            within_s: 180,
            ..Check::new("icmp_up", Comparison::Eq, 1.0)
        };
        let plan = Plan::new(format!("Turn port {port} off and on again"), Risk::Medium)
            .step(Step::new(switch, "off", "Power off", off).or_undo(on.clone()))
            .step(Step::new(
                switch,
                "wait",
                "Let it discharge",
                Action::WaitS(10),
            ))
            .step(Step::new(switch, "on", "Power on", on))
            .check(up);
        Ok(Decision::Run(plan))
    }
}

export_remediation!(PoeCycle);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    #[test]
    fn power_goes_off_and_on_and_a_failure_turns_it_on_again() {
        let incident = testing::incident(&[("poe_port", "7")]);
        let Ok(Decision::Run(plan)) = PoeCycle::decide(incident, vec![]) else {
            panic!("no plan");
        };
        let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["off", "wait", "on"]);
        assert_eq!(plan.steps[0].undo.as_ref(), Some(&plan.steps[2].action));
    }

    #[test]
    fn without_a_port_it_gives_up() {
        let decision = PoeCycle::decide(testing::incident(&[]), vec![]);
        assert_eq!(
            decision,
            Ok(Decision::GiveUp("the alert names no poe_port".into()))
        );
    }
}
