//! Certificates for listeners and clients, and lists of those that are revoked.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    serial: u64,
}

/// Who says who clients are.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    serial: u64,
    lists: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.folder.display())
    }
}

impl Authority {
    /// A new one, which keeps its files in `folder`, with an empty list of
    /// revoked certificates.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    #[must_use]
    pub fn new(folder: &Path) -> Authority {
        std::fs::create_dir_all(folder).expect("writable");
        let mut params = params("SOTP test authority", 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("random numbers");
        let own = params.self_signed(&key).expect("a sound certificate");
        let mut authority = Authority {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
            serial: 1,
            lists: 0,
        };
        write(&authority.certificate(), &own.pem());
        authority.revoke(&[]);
        authority
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The list of those that are revoked.
    #[must_use]
    pub fn revoked(&self) -> PathBuf {
        self.folder.join("crl.pem")
    }

    /// A client's certificate with the subject `CN=name`.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn issue(&mut self, name: &str) -> Identity {
        self.serial += 1;
        let mut params = params(name, self.serial);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("random numbers");
        let signed = params.signed_by(&key, &self.issuer);
        let signed = signed.expect("a sound certificate");
        let identity = Identity {
            certificate: self.folder.join(format!("{}.pem", self.serial)),
            key: self.folder.join(format!("{}.key", self.serial)),
            serial: self.serial,
        };
        write(&identity.certificate, &signed.pem());
        write(&identity.key, &key.serialize_pem());
        identity
    }

    /// Writes the list anew: these are revoked, and no other.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn revoke(&mut self, identities: &[&Identity]) {
        self.lists += 1;
        let revoked = identities.iter().map(|identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(self.lists),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a sound list");
        write(&self.revoked(), &list.pem().expect("a list is text"));
    }
}

/// A listener's certificate for `localhost`, signed by itself.
///
/// # Panics
///
/// If the disk refuses.
#[must_use]
pub fn self_signed(folder: &Path) -> Identity {
    std::fs::create_dir_all(folder).expect("writable");
    let mut params = params("localhost", 1);
    params.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into().expect("a name")),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    ];
    let key = KeyPair::generate().expect("random numbers");
    let own = params.self_signed(&key).expect("a sound certificate");
    let identity = Identity {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        serial: 1,
    };
    write(&identity.certificate, &own.pem());
    write(&identity.key, &key.serialize_pem());
    identity
}

fn params(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

/// As a key is to be written: for its owner alone.
fn write(path: &Path, text: &str) {
    crate::daemon::write_private(path, text);
}
