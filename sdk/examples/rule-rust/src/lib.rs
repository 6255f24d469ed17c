//! A sensor that is hot, and for ten minutes was.

use sotp_plugin::json::Json;
use sotp_plugin::prelude::*;

struct HotSensor;

impl Rule for HotSensor {
    fn describe() -> RuleDescriptor {
        let selector = Selector::new("temperature", "mikrotik_temperature_celsius", 600, 60);
        RuleDescriptor::every(60, vec![selector])
    }

    fn evaluate(input: RuleInput, out: &mut RuleOutput) -> Result<()> {
        let limit: f64 = config::need("limit")?;
        // since when each sensor is hot
        let before = Json::parse(&input.state_text()).unwrap_or(Json::Null);
        let mut since = Vec::new();
        for series in input.window("temperature") {
            let sensor = series.label("sensor").unwrap_or("?");
            let Some(last) = series.last() else {
                let summary = format!("{sensor} was not measured");
                out.verdict(sensor, Status::Unknown, Severity::Warning, summary);
                continue;
            };
            let is_hot = |point: &Point| point.value > limit;
            let status = match series.points.iter().all(is_hot) {
                true => Status::Firing,
                false if last > limit => Status::Pending,
                false => Status::Ok,
            };
            let verdict = out.verdict(
                sensor,
                status,
                Severity::Warning,
                format!("{sensor} is {last} °C"),
            );
            if last > limit {
                let at = before
                    .at(sensor)
                    .f64()
                    .unwrap_or((input.at / 1_000_000_000) as f64);
                verdict.attr("since", at.to_string());
                since.push((sensor.to_owned(), Json::Number(at)));
            }
        }
        out.state = Json::Object(since).to_string().into_bytes();
        Ok(())
    }
}

export_rule!(HotSensor);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    fn said(values: &[f64]) -> (Status, String) {
        testing::host(|host| host.settings.insert("limit".into(), "70".into()));
        let metric = "mikrotik_temperature_celsius";
        let series = testing::series(metric, &[("sensor", "cpu")], values);
        let out = testing::evaluate::<HotSensor>(&[series], "").unwrap();
        (out.verdicts[0].status, out.verdicts[0].summary.clone())
    }

    #[test]
    fn a_sensor_fires_when_it_was_hot_all_the_time() {
        assert_eq!(said(&[71.0, 80.0]).0, Status::Firing);
        assert_eq!(said(&[60.0, 80.0]).0, Status::Pending);
        assert_eq!(said(&[80.0, 60.0]).0, Status::Ok);
        assert_eq!(said(&[]).1, "cpu was not measured");
    }

    #[test]
    fn without_its_limit_it_says_that_its_settings_are_wrong() {
        let said = testing::evaluate::<HotSensor>(&[], "").unwrap_err();
        assert_eq!(said, Error::config("the setting limit is not set"));
    }
}
