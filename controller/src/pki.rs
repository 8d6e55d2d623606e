//! [`Pki`]: the platform's own certificate authority, and who a certificate says somebody is.
//!
//! Made at first start below the data folder; its key never leaves the controller. Identities are
//! SPIFFE URIs (`spiffe://isocast/node/ams-1`), never common names; a certificate of another
//! authority proves nothing here.

mod sec1;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject,
};
use thiserror::Error;
use x509_parser::{
    oid_registry::OID_X509_SERIALNUMBER,
    prelude::{FromDer, GeneralName, X509Certificate},
};

use crate::{
    authz::Identity,
    files,
    iam::{Bearer, SubjectName},
};

const TRUST_DOMAIN: &str = "spiffe://isocast/";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// A server's certificate is made anew at every start and lives in memory only.
const SERVER_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// X.520 serialNumber, the attribute of a subject that tells bearers of one name apart.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// Certificates begin a little earlier, for clocks that run late.
const BACKDATE: Duration = Duration::from_secs(300);

/// The certificate authority.
#[derive(Debug)]
pub struct Pki {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its chain and key.
#[derive(Debug)]
pub struct Credential {
    /// The certificate first, then the authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The key in PEM, as SEC 1 has it.
    pub key_pem: String,
}

/// Why the authority cannot be opened, or does not issue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Of certificate and key there is only one.
    #[error("{} is missing, but its counterpart is there", path.display())]
    Half {
        /// What is missing.
        path: PathBuf,
    },
    /// The stored certificate is not PEM.
    #[error("{} holds no certificate", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
    },
    /// A certificate cannot be made, or a request for one is malformed.
    #[error("cannot make a certificate")]
    Issue(#[from] rcgen::Error),
}

impl Pki {
    /// Loads the authority from `folder`, or makes it there.
    ///
    /// # Errors
    /// When the folder cannot be used, or what is in it is incomplete or malformed.
    pub fn open(folder: &Path, now: SystemTime) -> Result<Self, PkiError> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        match (exists(&certificate)?, exists(&key)?) {
            (true, true) => Self::load(&certificate, &key),
            (false, false) => Self::make(&certificate, &key, now),
            (true, false) => Err(PkiError::Half { path: key }),
            (false, true) => Err(PkiError::Half { path: certificate }),
        }
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The authority as the only root to trust.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([self.certificate.clone()]);
        roots
    }

    /// A credential for a server that is reached by `names`: host names and addresses.
    ///
    /// # Errors
    /// When a name is neither.
    pub fn issue_server(&self, names: &[String], now: SystemTime) -> Result<Credential, PkiError> {
        let mut params = subject("isocast-controller", now, SERVER_LIFE);
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A credential with every right.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn issue_administrator(&self, name: &str, now: SystemTime) -> Result<Credential, PkiError> {
        let mut params = subject(name, now, YEAR);
        params.subject_alt_names = vec![spiffe("administrator", name)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    /// The certificate chain for a node's own key. Of the request only the key counts: names and
    /// uses are ours to say. `uid` is that of the node's object: a certificate is not good for a
    /// later node of the same name.
    ///
    /// # Errors
    /// When the request is malformed or not signed by its key.
    pub fn issue_node(
        &self,
        csr_der: &[u8],
        node: &str,
        uid: &str,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let request = CertificateSigningRequestDer::from(csr_der);
        let public_key = CertificateSigningRequestParams::from_der(&request)?.public_key;
        let mut params = subject(node, now, ttl);
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), uid);
        params.subject_alt_names = vec![spiffe("node", node)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&public_key, &self.issuer)?;
        Ok(vec![certificate.der().clone(), self.certificate.clone()])
    }

    /// The certificate chain, in PEM, for a user's own key. Of the request only the key counts. `uid`
    /// is that of the user's object: a certificate is not good for a later user of the same name.
    ///
    /// # Errors
    /// When the request is malformed or not signed by its key.
    pub fn issue_user(
        &self,
        csr_pem: &str,
        user: &str,
        uid: &str,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let public_key = CertificateSigningRequestParams::from_pem(csr_pem)?.public_key;
        let mut params = subject(user, now, ttl);
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), uid);
        params.subject_alt_names = vec![spiffe("user", user)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&public_key, &self.issuer)?;
        Ok(format!("{}{}", certificate.pem(), self.pem))
    }

    fn load(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|source| PkiError::File { path: path.to_owned(), source })
        };
        let pem = read(certificate)?;
        let key = KeyPair::from_pem(&read(key)?)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_malformed| PkiError::Pem { path: certificate.to_owned() })?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { certificate: der, pem, issuer })
    }

    fn make(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, PkiError> {
        let pair = KeyPair::generate()?;
        let mut params = subject("isocast", now, CA_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&pair)?;
        let write = |path: &Path, text: &str| {
            path.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| files::replace_secret(path, text.as_bytes()))
                .map_err(|source| PkiError::File { path: path.to_owned(), source })
        };
        write(key, &pair.serialize_pem())?;
        write(certificate, &made.pem())?;
        let issuer = Issuer::new(params, pair);
        Ok(Self { certificate: made.der().clone(), pem: made.pem(), issuer })
    }

    fn issue(&self, params: &CertificateParams) -> Result<Credential, PkiError> {
        let pair = KeyPair::generate()?;
        let made = params.signed_by(&pair, &self.issuer)?;
        Ok(Credential {
            chain: vec![made.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
            certificate_pem: made.pem(),
            key_pem: sec1::serialize(&pair),
        })
    }
}

/// Who the bearer of a certificate is. The chain must have been verified before.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let path = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(TRUST_DOMAIN),
        _ => None,
    })?;
    match path.split_once('/')? {
        ("administrator", name) => Some(Identity::Administrator { name: name.into() }),
        ("node", name) => Some(Identity::Node { name: name.into() }),
        ("user", name) => {
            let uid = object_uid(certificate)?;
            let subject = SubjectName::User(name.into());
            Some(Identity::Subject(Arc::new(Bearer::of_account(subject, &uid))))
        }
        _ => None,
    }
}

/// The uid of the node or user that a certificate was issued to.
pub fn object_uid(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let uid = parsed.subject().iter_by_oid(&OID_X509_SERIALNUMBER).next()?;
    Some(uid.as_str().ok()?.to_owned())
}

fn subject(name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Short lives are not drawn out: renewal is due at two thirds of them.
    params.not_before = (now - BACKDATE.min(life / 10)).into();
    params.not_after = (now + life).into();
    params.use_authority_key_identifier_extension = true;
    params
}

fn spiffe(role: &str, name: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(format!("{TRUST_DOMAIN}{role}/{name}").as_str().try_into()?))
}

fn exists(path: &Path) -> Result<bool, PkiError> {
    path.try_exists().map_err(|source| PkiError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_authority_survives_a_restart_and_its_key_is_private() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let made = Pki::open(folder.path(), SystemTime::now()).expect("made");

        let loaded = Pki::open(folder.path(), SystemTime::now()).expect("loaded");

        assert_eq!(made.certificate(), loaded.certificate());
        let mode = fs::metadata(folder.path().join("ca.key")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn half_an_authority_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        drop(Pki::open(folder.path(), SystemTime::now()).expect("made"));
        fs::remove_file(folder.path().join("ca.key")).expect("there");

        let refusal = Pki::open(folder.path(), SystemTime::now()).expect_err("half");

        assert!(refusal.to_string().ends_with("ca.key is missing, but its counterpart is there"));
    }

    #[test]
    fn a_node_gets_the_name_we_say_whatever_it_asks_for() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pki = Pki::open(folder.path(), SystemTime::now()).expect("made");
        let key = KeyPair::generate().expect("a key");
        let mut asked = CertificateParams::default();
        asked.subject_alt_names = vec![spiffe("administrator", "root").expect("a URI")];
        let request = asked.serialize_request(&key).expect("a request");

        let ttl = Duration::from_secs(3600);
        let chain = pki
            .issue_node(request.der(), "ams-1", "a uid", ttl, SystemTime::now())
            .expect("issued");

        let leaf = chain.first().expect("a certificate");
        assert_eq!(identity(leaf), Some(Identity::Node { name: "ams-1".into() }));
        assert_eq!(object_uid(leaf).as_deref(), Some("a uid"));
    }

    #[test]
    fn an_administrator_is_recognised() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let pki = Pki::open(folder.path(), SystemTime::now()).expect("made");

        let credential = pki.issue_administrator("admin", SystemTime::now()).expect("issued");

        let leaf = credential.chain.first().expect("a certificate");
        assert_eq!(identity(leaf), Some(Identity::Administrator { name: "admin".into() }));
        assert_eq!(identity(pki.certificate()), None);
    }
}
