//! Errors of the interface that the default route leaves by: first which one it
//! is, then its counters.

use sotp_plugin::prelude::*;

metrics! {
    counter32 uplink_in_errors_total "1" "Damaged frames from the uplink";
    counter32 uplink_out_errors_total "1" "Frames that could not be sent to the uplink";
}

/// ipRouteIfIndex of 0.0.0.0 (RFC 1213)
const DEFAULT_ROUTE: &str = "1.3.6.1.2.1.4.21.1.2.0.0.0.0";
const IN_ERRORS: &str = "1.3.6.1.2.1.2.2.1.14";
const OUT_ERRORS: &str = "1.3.6.1.2.1.2.2.1.20";

struct Uplink;

impl Poller for Uplink {
    fn describe() -> Descriptor {
        descriptor()
    }

    fn start(_device: Device) -> Result<Vec<Ask>> {
        Ok(vec![Ask::SnmpGet(vec![oid(DEFAULT_ROUTE)])])
    }

    fn resume(_device: Device, round: u32, answers: Vec<(Ask, Answer)>) -> Result<Next> {
        let Some((_, answer)) = answers.first() else {
            return Err(Error::internal("nothing was answered"));
        };
        answer.varbinds()?; // or the reason why there are none
        if round == 1 {
            let uplink = answer.get(DEFAULT_ROUTE).and_then(|value| value.u64());
            let uplink = uplink.ok_or_else(|| Error::not_mine("it has no default route"))?;
            let errors = [IN_ERRORS, OUT_ERRORS].map(|column| oid(&format!("{column}.{uplink}")));
            return Ok(Next::More(vec![Ask::SnmpGet(errors.to_vec())]));
        }
        let mut out = Output::default();
        for varbind in answer.varbinds()? {
            let is_in = varbind.name.starts_with(&oid(IN_ERRORS));
            let metric = if is_in {
                uplink_in_errors_total
            } else {
                uplink_out_errors_total
            };
            out.set(metric, [], varbind.value.f64());
        }
        Ok(Next::Done(out))
    }
}

export_poller!(Uplink);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    #[test]
    fn it_asks_for_the_errors_of_the_interface_that_the_route_names() {
        let answer = |recording| {
            vec![(
                Ask::SnmpGet(vec![]),
                Answer::Snmp(testing::varbinds(recording)),
            )]
        };
        let route = answer("1.3.6.1.2.1.4.21.1.2.0.0.0.0|2|7");
        let next = Uplink::resume(testing::device(""), 1, route).unwrap();
        let errors = [oid("1.3.6.1.2.1.2.2.1.14.7"), oid("1.3.6.1.2.1.2.2.1.20.7")];
        assert_eq!(next, Next::More(vec![Ask::SnmpGet(errors.to_vec())]));
        let counters = answer("1.3.6.1.2.1.2.2.1.14.7|65|12\n1.3.6.1.2.1.2.2.1.20.7|65|3");
        let Ok(Next::Done(out)) = Uplink::resume(testing::device(""), 2, counters) else {
            panic!("it asks again");
        };
        let expected = ["uplink_in_errors_total 12", "uplink_out_errors_total 3"];
        assert_eq!(testing::readings(&descriptor(), &out), expected);
    }

    #[test]
    fn a_silent_device_is_no_fault_of_the_plugin() {
        let silent = vec![(Ask::SnmpGet(vec![]), Answer::Error("no answer".into()))];
        let said = Uplink::resume(testing::device(""), 1, silent).unwrap_err();
        assert_eq!(said, Error::unavailable("no answer"));
    }
}
