//! A certificate authority for tests.

use std::path::Path;

use docker::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// A self-signed certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's authority");
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// The authority's own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate and key in PEM, valid from 2020 to the beginning of the year `until`.
    pub fn server_pair(&self, names: &[&str], until: i32) -> (String, String) {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, until)
    }

    /// Docker's three files of a client, in a folder.
    pub fn client_files(&self, folder: &Path) -> TlsFiles {
        self.write(folder, self.issue(&[], ExtendedKeyUsagePurpose::ClientAuth, 2090))
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` into a folder.
    pub fn write(&self, folder: &Path, (cert, key): (String, String)) -> TlsFiles {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("ca.pem"), self.pem()).unwrap();
        std::fs::write(folder.join("cert.pem"), cert).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
        TlsFiles::in_folder(folder)
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}
