//! What is found out about names and about an agent that runs: plain facts, and how they are gathered.

use std::path::Path;
use std::time::Duration;

use crate::answer::client::{AskError, ask_within};
use crate::answer::line::Said;
use crate::answer::request::Request;
use crate::health::status::Status;
use crate::identify::rights::Answers;

/// How long each question may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The facts.
#[derive(Clone, PartialEq, Debug)]
pub struct Names {
    /// The Kubernetes API.
    pub api: Api,
    /// An agent that runs with this configuration.
    pub agent: Agent,
}

/// The Kubernetes API as a source of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Api {
    /// It is not asked, and why.
    NotAsked(String),
    /// It is to be asked, and what is needed for that cannot be used: the agent would not start.
    Unusable(String),
    /// It was asked.
    Asked {
        /// Where it is.
        server: String,
        /// The node's name as it is configured.
        node: String,
        /// What it says, or why it does not answer.
        answers: Result<Answers, String>,
    },
}

/// An agent that runs.
#[derive(Clone, PartialEq, Debug)]
pub enum Agent {
    /// There is none to be asked, and why.
    None(String),
    /// It gives no answer, and why.
    Silent(String),
    /// What it says.
    Says(Box<Status>),
}

impl Agent {
    /// Asks the agent at a socket; none: the configuration names no socket.
    pub fn gather(socket: Option<&Path>) -> Self {
        let Some(socket) = socket else { return Self::None("agent.socket is none".to_owned()) };
        let said = ask_within(socket, &Request::Status {}, PATIENCE).and_then(|mut answer| answer.say());
        match said {
            Ok(Some(Said::Status(status))) => Self::Says(status),
            Ok(_) => Self::Silent(AskError::Cut.to_string()),
            Err(AskError::Absent(path)) => Self::None(format!("no socket {}", path.display())),
            Err(AskError::Dead(path)) => Self::None(format!("the agent that made {} is gone", path.display())),
            Err(error @ AskError::NotRoot(_)) => Self::None(error.to_string()),
            Err(error) => Self::Silent(error.to_string()),
        }
    }
}

/// Asks the API server, by what the configuration says.
#[cfg(feature = "live")]
pub fn api(config: &crate::config::Config) -> Api {
    use crate::cli::stages;
    use crate::config::Enabled;
    use crate::identify::kubernetes::status::SharedStatus;
    use crate::identify::kubernetes::{client, rights};

    let kubernetes = &config.kubernetes;
    if !stages::asks_kubernetes(config) {
        return Api::NotAsked(match kubernetes.enabled {
            Enabled::No => "kubernetes.enabled is false".to_owned(),
            _ => "this is no pod with a service account, and there is no kubernetes.kubeconfig".to_owned(),
        });
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Api::Unusable(format!("no runtime: {error}")),
    };
    runtime.block_on(async {
        let path = kubernetes.kubeconfig.as_deref();
        // Its own requests are nobody's business.
        let client = tokio::time::timeout(PATIENCE, client::connect(path, &SharedStatus::default())).await;
        let client = match client {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Api::Unusable(error.to_string()),
            Err(_) => return Api::Unusable("the kubeconfig's way to credentials takes too long".to_owned()),
        };
        let node = stages::node_name(config);
        let server = client::server(path).await.unwrap_or_default();
        let answers = rights::ask(&client, &node, PATIENCE).await;
        Api::Asked { server, node, answers }
    })
}

/// Nothing to ask with.
#[cfg(not(feature = "live"))]
pub fn api(_: &crate::config::Config) -> Api {
    Api::NotAsked("this program was built without it (feature `live`)".to_owned())
}
