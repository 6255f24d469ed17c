//! Client certificates: whose they are.
//!
//! TLS has checked by whom a certificate was issued and whether it was revoked.
//! What is left is to find the person: by the subject as RFC 4514 writes it, or
//! by one of the names in subjectAltName.

use model::Timestamp;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::AccessError;

/// Names in one certificate that are looked up.
const MAX_NAMES: usize = 64;

/// All names that the certificate's owner goes by: the subject first.
///
/// # Errors
///
/// [`AccessError::BadToken`] if it cannot be read or is not valid at `now`: a
/// connection may be older than its certificate's end.
pub(crate) fn names(der: &[u8], now: Timestamp) -> Result<Vec<String>, AccessError> {
    let bad = |why| AccessError::BadToken { why };
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_error| bad("the client certificate cannot be read"))?;
    let secs = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if secs < validity.not_before.timestamp() || secs > validity.not_after.timestamp() {
        return Err(bad("the client certificate is not valid at this time"));
    }
    let mut names = vec![subject(certificate.subject())];
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        names.extend(
            alternatives
                .value
                .general_names
                .iter()
                .filter_map(alternative)
                // written like a subject, it could be taken for one
                .filter(|name| !name.contains('='))
                .take(MAX_NAMES),
        );
    }
    names.retain(|name| !name.is_empty());
    Ok(names)
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// The subject as RFC 4514 writes it: the last part first.
fn subject(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let kind = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        // not in RFC 4514's table, but what `openssl -nameopt RFC2253` shows
        "1.2.840.113549.1.9.1" => "emailAddress",
        "2.5.4.5" => "serialNumber",
        other => other,
    };
    match text(attribute) {
        Some(text) => format!("{kind}={}", escaped(&text)),
        None => format!("{kind}=#{}", crate::text::hex(attribute.attr_value().data)),
    }
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let value = attribute.attr_value();
    match value.header.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            std::str::from_utf8(value.data).ok().map(str::to_owned)
        }
        Tag::BmpString => {
            let units = value.data.chunks_exact(2);
            let units: Vec<u16> = units
                .map(|two| u16::from_be_bytes([two[0], two[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// RFC 4514, 2.4.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut shown = String::with_capacity(text.len());
    for (place, letter) in text.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => shown.extend(['\\', letter]),
            ' ' if place == 0 || place == last => shown.push_str("\\ "),
            '#' if place == 0 => shown.push_str("\\#"),
            '\0' => shown.push_str("\\00"),
            letter => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn made(parts: &[(DnType, &str)], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = alternatives;
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2028, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_written_as_in_rfc_4514() {
        let der = made(
            &[
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Wolke, Gabel + Söhne"),
                (DnType::CommonName, " jane #1"),
            ],
            vec![],
        );
        let expected = r"CN=\ jane #1,O=Wolke\, Gabel \+ Söhne,C=DE";
        assert_eq!(names(&der, NOW).unwrap(), [expected]);
    }

    #[test]
    fn names_in_subject_alt_name_count_but_for_those_written_like_a_subject() {
        let text = |text: &str| text.try_into().unwrap();
        let der = made(
            &[(DnType::CommonName, "probe")],
            vec![
                SanType::DnsName(text("Probe7.example.net")),
                SanType::Rfc822Name(text("jane@example.net")),
                SanType::URI(text("spiffe://example.net/probe7")),
                SanType::URI(text("CN=root")),
                SanType::IpAddress("10.0.0.1".parse().unwrap()),
            ],
        );
        let expected = [
            "CN=probe",
            "probe7.example.net",
            "jane@example.net",
            "spiffe://example.net/probe7",
        ];
        assert_eq!(names(&der, NOW).unwrap(), expected);
    }

    #[test]
    fn a_certificate_is_nobodys_before_and_after_its_time() {
        let der = made(&[(DnType::CommonName, "jane")], vec![]);
        for secs in [1_700_000_000, 1_900_000_000] {
            assert!(names(&der, Timestamp(secs * 1000)).is_err());
        }
        assert!(names(b"nonsense", NOW).is_err());
        assert!(names(&[], NOW).is_err());
    }
}
