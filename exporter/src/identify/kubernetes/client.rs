//! The connection to the API server.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::util::{MapRequestLayer, MapResultLayer};

use super::status::SharedStatus;
use super::token::TokenFile;

/// A watch says something at least each minute: the API server sends bookmarks. One that is silent for this long is a
/// connection that only this side believes in.
const SILENT: Duration = Duration::from_secs(100);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Why the API server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that `kubernetes.kubeconfig` names.
    #[error(
        "kubernetes.kubeconfig: cannot use {path}: {why}; name a file that kubectl can use, and that this user can read"
    )]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// What a pod finds in itself.
    #[error(
        "kubernetes.enabled is true, but this is no pod with a service account ({0}); set kubernetes.kubeconfig, or kubernetes.enabled: false"
    )]
    NoPod(String),
    /// Certificates, proxies.
    #[error("cannot make a connection to the API server: {0}")]
    Client(#[from] kube::Error),
}

/// Whether this process was started by a kubelet and may ask the API server.
pub fn is_in_cluster() -> bool {
    Config::incluster_env().is_ok()
}

/// A client by a kubeconfig, else by the pod's own service account. A token in a file is read again as it is renewed there.
///
/// # Errors
///
/// Where neither can be used. An API server that does not answer is none.
pub async fn connect(kubeconfig: Option<&Path>, status: &SharedStatus) -> Result<Client, Error> {
    let mut config = settings(kubeconfig).await?;
    let token = config.auth_info.token_file.take().map(|file| Arc::new(Mutex::new(TokenFile::new(Path::new(&file)))));
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENT);
    let (asked, heard) = (status.clone(), status.clone());
    let ask = MapRequestLayer::new(move |mut request: http::Request<kube::client::Body>| {
        asked.update(|status| status.requests += 1);
        let token = token.as_ref().map(|token| token.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(header) = token.and_then(|mut token| token.header(Instant::now())) {
            request.headers_mut().insert(http::header::AUTHORIZATION, header);
        }
        request
    });
    let mark = MapResultLayer::new(move |result: Result<http::Response<_>, _>| {
        if let Ok(response) = &result
            && response.status().is_success()
            && let Some(away) = heard.heard()
        {
            tracing::info!("the API server answers again, after {:.1} s", away.as_secs_f64());
        }
        // A watch is one answer for minutes: each part of it is a word from the API server.
        let speaking = heard.clone();
        result.map(|response| {
            let tells = response.status().is_success();
            response.map(|body: Box<kube::client::DynBody>| {
                body.map_frame(move |frame| {
                    if tells {
                        speaking.speaks();
                    }
                    frame
                })
            })
        })
    });
    Ok(kube::client::ClientBuilder::try_from(config)?.with_layer(&mark).with_layer(&ask).build())
}

/// Where the API server is.
///
/// # Errors
///
/// Those of [`connect`].
pub async fn server(kubeconfig: Option<&Path>) -> Result<String, Error> {
    Ok(settings(kubeconfig).await?.cluster_url.to_string())
}

async fn settings(kubeconfig: Option<&Path>) -> Result<Config, Error> {
    match kubeconfig {
        Some(path) => from_file(path).await,
        None => Config::incluster_env().map_err(|error| Error::NoPod(chain(&error))),
    }
}

async fn from_file(path: &Path) -> Result<Config, Error> {
    let wrong = |error: kube::config::KubeconfigError| Error::Kubeconfig {
        path: path.display().to_string(),
        why: chain(&error),
    };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)
}

/// An error and its causes in one line: the outermost says the least.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !said.contains(&cause_text) {
            said = format!("{said}: {cause_text}");
        }
        source = cause.source();
    }
    super::text::value(&said)
}
