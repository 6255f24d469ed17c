//! Notifiers, and requests, which others make as well.

use std::sync::Arc;

use contract::{Delivery, Failure, Fault, HttpRequest, HttpResponse, Kind, Octets, Phase, Reply};
use rhai::{Dynamic, NativeCallContext};

use super::input::Device;
use super::{
    Out, Prelude, attribute_map, list, mistake, returned, seconds, severity_word, unsigned,
};
use crate::convert::to_json;
use crate::running::Running;

#[derive(Clone)]
struct Notification(Arc<contract::Notification>);

/// An answer to a request.
#[derive(Clone)]
pub(crate) struct Response(Arc<HttpResponse>);

impl From<HttpResponse> for Response {
    fn from(response: HttpResponse) -> Response {
        Response(Arc::new(response))
    }
}

pub(super) fn notification(notification: contract::Notification) -> Dynamic {
    Dynamic::from(Notification(Arc::new(notification)))
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.0.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// What an answer means to everyone: done, later, or never.
    fn meaning(&self) -> Delivery {
        /// When to come back if the other side does not say.
        const LATER_S: u32 = 30;
        match self.0.status {
            200..=299 => Delivery::Delivered(None),
            429 | 500..=599 => {
                let said = self
                    .header("retry-after")
                    .and_then(|text| text.trim().parse().ok());
                Delivery::RetryAfterS(said.unwrap_or(LATER_S))
            }
            status => {
                let body = String::from_utf8_lossy(&self.0.body.0);
                let body: String = body.chars().take(200).collect();
                Delivery::Failed(format!("HTTP {status}: {}", body.trim()))
            }
        }
    }
}

/// What is replied for a function that a script need not have.
pub(crate) fn default_reply(function: &str, running: &Running) -> Result<Reply, Failure> {
    match (&running.response, function) {
        (Some(response), "interpret") => Ok(Reply::Delivery(response.meaning())),
        _ => Ok(Reply::Nothing),
    }
}

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "A notifier's input",
        &[Kind::Notifier],
        "`render(notification)` returns one request, an array of them, or `()` for none. \
         `interpret(notification, response)` says what an answer means; without it 2xx is delivered, \
         429 and 5xx are tried again after `Retry-After` or 30 s, and all else has failed.",
    );
    prelude
        .name::<Notification>("Notification")
        .prop("notification.id", "Its number.", |n: &mut Notification| {
            n.0.id.clone()
        })
        .prop(
            "notification.phase",
            "`opened`, `changed`, `resolved`, `remediated` or `test`.",
            |n: &mut Notification| phase(n.0.phase),
        )
        .prop(
            "notification.severity",
            "`info`, `warning` or `critical`.",
            |n: &mut Notification| severity_word(n.0.severity),
        )
        .prop(
            "notification.at",
            "When, in seconds since 1970.",
            |n: &mut Notification| seconds(n.0.at),
        )
        .prop(
            "notification.summary",
            "One line of text.",
            |n: &mut Notification| n.0.summary.clone(),
        )
        .prop("notification.attrs", "A map.", |n: &mut Notification| {
            attribute_map(&n.0.attrs)
        })
        .prop(
            "notification.device",
            "The device, or `()`.",
            |n: &mut Notification| -> Dynamic {
                let device = n.0.device.clone();
                device.map_or(Dynamic::UNIT, |device| {
                    Dynamic::from(Device(Arc::new(device)))
                })
            },
        )
        .prop(
            "notification.url",
            "Where a person reads more.",
            |n: &mut Notification| n.0.url.clone(),
        )
        .name::<Delivery>("Delivery")
        .def("delivered()", "It has arrived.", || {
            Delivery::Delivered(None)
        })
        .def(
            "delivered(id)",
            "It has arrived, and is called `id` there.",
            |id: &str| Delivery::Delivered(Some(id.to_owned())),
        )
        .def(
            "retry_after(seconds)",
            "Not yet: again in so many seconds.",
            |c: NativeCallContext, seconds: i64| -> Out<Delivery> {
                Ok(Delivery::RetryAfterS(unsigned(&c, "the time", seconds)?))
            },
        )
        .def("failed(why)", "It will never arrive.", |why: &str| {
            Delivery::Failed(why.to_owned())
        })
        .def(
            "by_status(response)",
            "What an answer means by its status alone, as without `interpret`.",
            |response: Response| response.meaning(),
        );
    requests_and_answers(prelude);
}

const SENDERS: &[Kind] = &[Kind::Notifier, Kind::Remediation, Kind::Poller];

fn requests_and_answers(prelude: &mut Prelude) {
    prelude.section(
        "Requests and answers",
        SENDERS,
        "The host sends requests; secrets stand in them as `${secret:name}` and are filled in by the host.",
    );
    prelude
        .name::<HttpRequest>("Request")
        .name::<Response>("Response")
        .def("get(url)", "A GET.", |url: &str| http_request("GET", url))
        .def("request(method, url)", "Any other.", http_request)
        .def(
            "post_json(url, value)",
            "A POST of a map or array as JSON.",
            |c: NativeCallContext, url: &str, value: Dynamic| -> Out<HttpRequest> {
                let body = to_json(&value).map_err(|error| mistake(&c, error, ""))?;
                let request = http_request("POST", url);
                Ok(with_body(request, "application/json", body.to_string()))
            },
        )
        .def(
            "post_form(url, map)",
            "A POST of a form.",
            |c: NativeCallContext, url: &str, map: rhai::Map| -> Out<HttpRequest> {
                let fields = super::attributes(&c, &map)?;
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| {
                        format!(
                            "{}={}",
                            super::text::url_encoded(key),
                            super::text::url_encoded(value)
                        )
                    })
                    .collect();
                let request = http_request("POST", url);
                Ok(with_body(
                    request,
                    "application/x-www-form-urlencoded",
                    fields.join("&"),
                ))
            },
        )
        .def(
            "request.header(name, value)",
            "Adds a header; returns the request, so that calls can be chained.",
            |r: &mut HttpRequest, name: &str, value: &str| -> HttpRequest {
                r.headers.push((name.to_owned(), value.to_owned()));
                r.clone()
            },
        )
        .def(
            "request.body(content_type, text)",
            "Sets the body.",
            |r: &mut HttpRequest, content_type: &str, text: &str| -> HttpRequest {
                *r = with_body(r.clone(), content_type, text.to_owned());
                r.clone()
            },
        )
        .def(
            "request.timeout_ms(ms)",
            "How long to wait for an answer; 10 s without it.",
            |c: NativeCallContext, r: &mut HttpRequest, ms: i64| -> Out<HttpRequest> {
                r.timeout_ms = unsigned(&c, "the time", ms)?;
                Ok(r.clone())
            },
        )
        .prop("response.status", "Its status.", |r: &mut Response| {
            i64::from(r.0.status)
        })
        .prop("response.text", "Its body as text.", |r: &mut Response| {
            String::from_utf8_lossy(&r.0.body.0).into_owned()
        })
        .prop(
            "response.json",
            "Its body as JSON.",
            |c: NativeCallContext, r: &mut Response| -> Out<Dynamic> {
                super::input::json(&c, &String::from_utf8_lossy(&r.0.body.0))
            },
        )
        .def(
            "response.header(name)",
            "A header's value, or `()`.",
            |r: &mut Response, name: &str| -> Dynamic {
                r.header(name)
                    .map_or(Dynamic::UNIT, |value| value.to_owned().into())
            },
        );
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Opened => "opened",
        Phase::Changed => "changed",
        Phase::Resolved => "resolved",
        Phase::Remediated => "remediated",
        Phase::Test => "test",
    }
}

fn http_request(method: &str, url: &str) -> HttpRequest {
    /// How long to wait for an answer.
    const TIMEOUT_MS: u32 = 10_000;
    HttpRequest {
        method: method.to_ascii_uppercase(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        timeout_ms: TIMEOUT_MS,
    }
}

fn with_body(mut request: HttpRequest, content_type: &str, body: String) -> HttpRequest {
    request
        .headers
        .push(("Content-Type".to_owned(), content_type.to_owned()));
    request.body = Some(Octets(body.into_bytes()));
    request
}

/// What `render` returned.
pub(super) fn requests(value: Dynamic) -> Result<Vec<HttpRequest>, Fault> {
    let each = |value: Dynamic| {
        value.try_cast_result::<HttpRequest>().map_err(|other| {
            returned(
                "render",
                &other,
                "a request: post_json(url, #{...}); an array of them; or ()",
            )
        })
    };
    list(value).into_iter().map(each).collect()
}
