//! A device's interfaces: what they are, and what goes through them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use model::{Check, Interface, Permission, Reading};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::device_view::polled;
use crate::devices::find;
use crate::problem::Problem;
use crate::query;
use crate::request::{JsonAnswer, Path};
use crate::rollup::{OCTET, columns_by_interface};

/// The interfaces of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InterfaceList {
    /// When the figures were measured; null if they are not known now.
    at: Option<String>,
    /// The interfaces, by identity.
    items: Vec<InterfaceView>,
}

/// An interface (RFC 2863). Figures are null where the newest poll did not
/// measure them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InterfaceView {
    /// What it is known by: ifName, else ifAlias, else ifDescr.
    identity: String,
    /// ifIndex at the last poll; may be another one tomorrow.
    index: u32,
    /// ifAlias: what an operator called it.
    alias: Option<String>,
    /// ifDescr.
    descr: Option<String>,
    /// ifType, a number of IANAifType.
    #[serde(rename = "type")]
    if_type: Option<u32>,
    /// Its hardware address.
    mac: Option<String>,
    /// Its speed, in bit/s.
    speed_bps: Option<u64>,
    /// up, down or testing.
    admin_status: Option<&'static str>,
    /// up, down, testing, unknown, dormant, notPresent or lowerLayerDown.
    oper_status: Option<&'static str>,
    /// Bits received per second.
    in_bps: Option<f64>,
    /// Bits sent per second.
    out_bps: Option<f64>,
    /// in_bps as a share of the speed, 0 to 1.
    in_utilisation_ratio: Option<f64>,
    /// out_bps as a share of the speed, 0 to 1.
    out_utilisation_ratio: Option<f64>,
    /// Packets received.
    in_packets_per_second: Option<f64>,
    /// Packets sent.
    out_packets_per_second: Option<f64>,
    /// Packets received with errors.
    in_errors_per_second: Option<f64>,
    /// Packets not sent because of errors.
    out_errors_per_second: Option<f64>,
    /// Packets received and dropped without an error.
    in_discards_per_second: Option<f64>,
    /// Packets dropped before they were sent, without an error.
    out_discards_per_second: Option<f64>,
}

/// Lists the interfaces of a device with what goes through them.
#[utoipa::path(
    get,
    path = "/devices/{device}/interfaces",
    tag = "devices",
    params(("device" = String, Path, description = "Id or name")),
    responses(
        (status = 200, description = "Its interfaces", body = InterfaceList),
        (status = 404, description = "There is no such device"),
    )
)]
pub(crate) async fn list_interfaces(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<InterfaceList>, Problem> {
    query::none(&uri)?;
    let device = find(&api, &caller, Permission::DevicesRead, &asked)?;
    let facts = api.store().facts(device.id);
    let reading = polled(&api, &device, Check::Snmp).fresh;
    let columns = reading
        .as_deref()
        .map(|reading| columns_by_interface(&reading.row.columns))
        .unwrap_or_default();

    let items = facts.iter().flat_map(|facts| &facts.interfaces);
    let items = items.map(|(identity, interface)| {
        let figures = Figures {
            reading: reading.as_deref(),
            columns: columns.get(identity.as_str()),
        };
        view(identity, interface, &figures)
    });
    Ok(JsonAnswer(InterfaceList {
        at: reading.as_ref().map(|reading| reading.row.at.to_string()),
        items: items.collect(),
    }))
}

fn view(identity: &str, interface: &Interface, figures: &Figures<'_>) -> InterfaceView {
    let in_bps = figures
        .first(["ifHCInOctets", "ifInOctets"])
        .map(|octets| octets * OCTET);
    let out_bps = figures
        .first(["ifHCOutOctets", "ifOutOctets"])
        .map(|octets| octets * OCTET);
    InterfaceView {
        identity: identity.to_owned(),
        index: interface.index,
        alias: interface.alias.clone(),
        descr: interface.descr.clone(),
        if_type: interface.if_type,
        mac: interface.mac.clone(),
        speed_bps: interface.speed_bps,
        admin_status: figures.status("ifAdminStatus", &ADMIN),
        oper_status: figures.status("ifOperStatus", &OPER),
        in_bps,
        out_bps,
        in_utilisation_ratio: share(in_bps, interface.speed_bps),
        out_utilisation_ratio: share(out_bps, interface.speed_bps),
        in_packets_per_second: figures.sum(
            ["ifHCInUcastPkts", "ifInUcastPkts"],
            ["ifHCInMulticastPkts", "ifHCInBroadcastPkts"],
        ),
        out_packets_per_second: figures.sum(
            ["ifHCOutUcastPkts", "ifOutUcastPkts"],
            ["ifHCOutMulticastPkts", "ifHCOutBroadcastPkts"],
        ),
        in_errors_per_second: figures.value("ifInErrors"),
        out_errors_per_second: figures.value("ifOutErrors"),
        in_discards_per_second: figures.value("ifInDiscards"),
        out_discards_per_second: figures.value("ifOutDiscards"),
    }
}

/// The words of ifAdminStatus, from 1.
const ADMIN: [&str; 3] = ["up", "down", "testing"];

/// The words of ifOperStatus, from 1.
const OPER: [&str; 7] = [
    "up",
    "down",
    "testing",
    "unknown",
    "dormant",
    "notPresent",
    "lowerLayerDown",
];

/// What was measured of one interface.
struct Figures<'a> {
    reading: Option<&'a Reading>,
    columns: Option<&'a BTreeMap<&'a str, usize>>,
}

impl Figures<'_> {
    fn value(&self, metric: &str) -> Option<f64> {
        self.reading?.value(*self.columns?.get(metric)?)
    }

    /// The 64-bit counter's rate, else the 32-bit one's.
    fn first(&self, metrics: [&str; 2]) -> Option<f64> {
        metrics.into_iter().find_map(|metric| self.value(metric))
    }

    /// Unicast packets with what else was counted.
    fn sum(&self, unicast: [&str; 2], others: [&str; 2]) -> Option<f64> {
        let others = others.into_iter().filter_map(|metric| self.value(metric));
        self.first(unicast)
            .map(|unicast| unicast + others.sum::<f64>())
    }

    fn status(&self, metric: &str, words: &[&'static str]) -> Option<&'static str> {
        let number = self.value(metric)?;
        let mut numbered = (1_u32..).zip(words);
        numbered
            .find(|(place, _)| (f64::from(*place) - number).abs() < 0.5)
            .map(|(_, word)| *word)
    }
}

fn share(bps: Option<f64>, speed: Option<u64>) -> Option<f64> {
    let speed = speed.filter(|speed| *speed > 0)?;
    Some(bps? / crate::exposition::as_f64(speed))
}
