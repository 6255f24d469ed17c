//! One more column in a CSV file (RFC 4180), without touching the others: the
//! lines keep their numbers, so that what the daemon says of them stays true.

use crate::error::Trouble;

/// `csv` with the column `tenant`, the same in every record.
pub(super) fn with_tenant(csv: &[u8], tenant: &str) -> Result<Vec<u8>, Trouble> {
    let mut whole = Vec::with_capacity(csv.len() + csv.len() / 8);
    for (place, record) in records(csv).into_iter().enumerate() {
        let (content, end) = without_end(record);
        whole.extend_from_slice(content);
        if place == 0 {
            refuse_column(content)?;
            whole.extend_from_slice(b",tenant");
        } else if !content.is_empty() {
            whole.push(b',');
            whole.extend_from_slice(tenant.as_bytes());
        }
        whole.extend_from_slice(end);
    }
    Ok(whole)
}

/// Cut behind the line ends that are not within quotes.
fn records(csv: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    csv.split_inclusive(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b'\n' && !quoted
    })
    .collect()
}

fn without_end(record: &[u8]) -> (&[u8], &[u8]) {
    let content = record.strip_suffix(b"\n").unwrap_or(record);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    record.split_at(content.len())
}

fn refuse_column(header: &[u8]) -> Result<(), Trouble> {
    let header = String::from_utf8_lossy(header);
    let named = |column: &str| {
        column
            .trim_matches([' ', '"', '\u{feff}'])
            .eq_ignore_ascii_case("tenant")
    };
    match header.split(',').any(named) {
        true => Err(Trouble::Usage(
            "the file has a column tenant already: leave --tenant out".into(),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(csv: &str) -> String {
        String::from_utf8(with_tenant(csv.as_bytes(), "acme").unwrap()).unwrap()
    }

    #[test]
    fn every_record_gets_the_tenant_and_keeps_its_line() {
        assert_eq!(
            added("name,address\na,1\r\nb,2"),
            "name,address,tenant\na,1,acme\r\nb,2,acme"
        );
        assert_eq!(
            added("name,os\na,\"two\nlines, \"\"q\"\"\"\n\nb,x\n"),
            "name,os,tenant\na,\"two\nlines, \"\"q\"\"\",acme\n\nb,x,acme\n"
        );
        assert_eq!(added(""), "");
    }

    #[test]
    fn a_column_that_is_there_already_is_not_added() {
        for header in ["name,tenant", "\"Tenant\", name"] {
            assert!(with_tenant(header.as_bytes(), "acme").is_err(), "{header}");
        }
    }
}
