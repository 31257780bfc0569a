//! TLS with certificates of our own.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::super::testing::parcel;
use super::super::*;
use super::server::{Server, exporter, start, until};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for a name.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn server_tls(authority: &Authority, name: &str) -> ServerTlsConfig {
    let (certificate, key) = authority.issue(name);
    ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))
}

fn tls(authority: &Authority) -> TlsOptions {
    TlsOptions { ca: Some(Pem::Text(authority.pem())), tls12: true, tls13: true, ..TlsOptions::default() }
}

fn secure(address: SocketAddr, tls: TlsOptions) -> ExporterOptions {
    let mut options = exporter(address);
    options.grpc.tls = Some(tls);
    options
}

async fn succeeds(options: ExporterOptions) {
    let delivery = start(options);
    delivery.offer(parcel(Priority::Success, "a", 1, 10));
    until(&delivery, |counters| counters.sent == 1).await;
}

async fn fails(options: ExporterOptions, text: &str) {
    let delivery = start(options);
    delivery.offer(parcel(Priority::Success, "a", 1, 10));
    let failing = until(&delivery, |counters| counters.failures > 0).await;
    let Health::Failing(why) = &failing.health else { panic!("{failing:?}") };
    assert!(why.contains(text), "{why}");
    assert_eq!(failing.dropped_in_all(), 0);
}

#[tokio::test]
async fn the_servers_certificate_is_verified() {
    let authority = Authority::new();
    let (_, address) = Server::start(Some(server_tls(&authority, "127.0.0.1"))).await;
    succeeds(secure(address, tls(&authority))).await;
    succeeds(secure(address, TlsOptions { tls12: false, ..tls(&authority) })).await;
    fails(secure(address, tls(&Authority::new())), "the TLS handshake failed").await;
    succeeds(secure(address, TlsOptions { insecure_skip_verify: true, ..tls(&Authority::new()) })).await;
    fails(exporter(address), "check that this port speaks gRPC").await;
}

#[tokio::test]
async fn the_name_may_be_another() {
    let authority = Authority::new();
    let (_, address) = Server::start(Some(server_tls(&authority, "collector.example"))).await;
    fails(secure(address, tls(&authority)), "certificate").await;
    succeeds(secure(address, TlsOptions { server_name: Some("collector.example".to_owned()), ..tls(&authority) }))
        .await;
}

#[tokio::test]
async fn a_plain_server_is_no_tls_server() {
    let (_, address) = Server::start(None).await;
    fails(secure(address, tls(&Authority::new())), "check that this port speaks TLS").await;
}

#[tokio::test]
async fn mutual_tls_with_files_read_again() {
    let authority = Authority::new();
    let server = server_tls(&authority, "127.0.0.1").client_ca_root(Certificate::from_pem(authority.pem()));
    let (_, address) = Server::start(Some(server)).await;
    let delivery = start(secure(address, tls(&authority)));
    delivery.offer(parcel(Priority::Success, "a", 1, 10));
    until(&delivery, |counters| matches!(counters.health, Health::Failing(_))).await;

    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let write = |authority: &Authority| {
        let (certificate, private) = authority.issue("agent");
        std::fs::write(&cert, certificate).unwrap();
        std::fs::write(&key, private).unwrap();
    };
    // A certificate that the server does not trust, replaced later by one that it does.
    write(&Authority::new());
    let options = TlsOptions {
        client: Some((Pem::File(cert.clone()), Pem::File(key.clone()))),
        reload_interval: Some(std::time::Duration::from_millis(1)),
        ..tls(&authority)
    };
    let delivery = start(secure(address, options));
    delivery.offer(parcel(Priority::Success, "a", 1, 10));
    until(&delivery, |counters| counters.failures > 0).await;
    write(&authority);
    until(&delivery, |counters| counters.sent == 1).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start() {
    let options =
        TlsOptions { ca: Some(Pem::File("/nonexistent/ca.pem".into())), tls12: true, ..TlsOptions::default() };
    let exporter = secure("127.0.0.1:1".parse().unwrap(), options);
    let started = Delivery::start(
        Options { memory_limit: 1 << 20, exporters: vec![exporter] },
        &tokio::runtime::Handle::current(),
    );
    let error = started.err().unwrap().to_string();
    assert!(error.starts_with("exporters.otlp: tls.ca_file: /nonexistent/ca.pem cannot be read"), "{error}");
    let empty = TlsOptions { ca: Some(Pem::Text("nothing".to_owned())), tls12: true, ..TlsOptions::default() };
    let error = GrpcSender::new(&secure("127.0.0.1:1".parse().unwrap(), empty).grpc).err().unwrap();
    assert!(error.contains("holds no certificate"), "{error}");
}
