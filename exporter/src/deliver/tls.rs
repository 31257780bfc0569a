//! TLS as a client: which certificates are trusted and shown, read again where that is configured.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::options::{Pem, TlsOptions};

/// What connections are made with.
#[derive(Debug)]
pub(super) struct TlsSource {
    options: TlsOptions,
    current: Mutex<(Instant, Arc<ClientConfig>)>,
}

impl TlsSource {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn new(options: TlsOptions) -> Result<Self, String> {
        let config = Arc::new(read(&options)?);
        Ok(Self { options, current: Mutex::new((Instant::now(), config)) })
    }

    /// For the next connection. Files that are due are read again; if that fails, what was read before
    /// stays, and the log says so.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.options.reload_interval.is_some_and(|interval| current.0.elapsed() >= interval) {
            match read(&self.options) {
                Ok(config) => current.1 = Arc::new(config),
                Err(error) => tracing::warn!("TLS files cannot be read again, the earlier ones stay in use: {error}"),
            }
            current.0 = Instant::now();
        }
        current.1.clone()
    }
}

/// The name to verify.
///
/// # Errors
/// If it is neither a DNS name nor an address.
pub(super) fn server_name(options: &TlsOptions, host: &str) -> Result<ServerName<'static>, String> {
    let name = options.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} is neither a DNS name nor an address"))
}

fn read(options: &TlsOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let mut versions = Vec::new();
    if options.tls12 {
        versions.push(&rustls::version::TLS12);
    }
    if options.tls13 {
        versions.push(&rustls::version::TLS13);
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("TLS versions: {error}"))?;
    let builder = if options.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        builder.with_root_certificates(roots(options)?)
    };
    let mut config = match &options.client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(cert, "tls.cert_file")?;
            let pem = text(key, "tls.key_file")?;
            let key = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|error| format!("tls.key_file: {key:?} holds no private key in PEM: {error}"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("tls.cert_file and tls.key_file do not fit: {error}"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &options.ca {
        for certificate in certificates(ca, "tls.ca_file")? {
            roots.add(certificate).map_err(|error| format!("tls.ca_file: {ca:?}: {error}"))?;
        }
    }
    if options.ca.is_none() || options.system_roots {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        return Err("no certificates to trust were found on this system; name the backend's in tls.ca_file".to_owned());
    }
    Ok(roots)
}

fn certificates(pem: &Pem, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = text(pem, key)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{key}: {pem:?} holds no certificate in PEM")),
        Err(error) => Err(format!("{key}: {pem:?} is no PEM: {error}")),
    }
}

fn text(pem: &Pem, key: &str) -> Result<Vec<u8>, String> {
    match pem {
        Pem::Text(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|error| format!("{key}: {} cannot be read: {error}", path.display()))
        }
    }
}

/// `insecure_skip_verify`: takes any certificate, but the handshake must still be signed by it.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
