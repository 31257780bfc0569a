//! One kind of object followed for as long as it is polled: a list, streamed where the API server can, and a watch
//! from there on.

use std::fmt::Debug;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::client::chain;

/// Objects a page, where the API server does not stream lists.
const PAGE: u32 = 500;

/// Whoever keeps up with a kind of object.
pub trait Follower<K> {
    /// One event, in the order of the API server's.
    fn take(&mut self, event: Event<K>) -> impl Future<Output = ()> + Send;

    /// The API server did not answer, or refused; it is asked again, after a while that grows.
    fn failed(&mut self, error: &watcher::Error);
}

/// Follows the objects that a field selector names, all without one.
pub async fn follow<K>(objects: Api<K>, fields: Option<&str>, to: &mut impl Follower<K>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut streaming = true;
    loop {
        let config = watcher::Config { field_selector: fields.map(str::to_owned), ..watcher::Config::default() };
        // What the API server has in its cache is as good as any: a node that starts costs etcd nothing.
        let config = if streaming { config.streaming_lists() } else { config.any_semantic().page_size(PAGE) };
        let mut events = watch(objects.clone(), config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => to.take(event).await,
                Err(error) if streaming && no_streams(&error) => {
                    tracing::info!("the API server does not stream lists: objects are listed by pages");
                    streaming = false;
                    break;
                }
                // 410 Gone: the watch is older than what the API server remembers. A new list follows.
                Err(error) if code(&error) == Some(410) => {
                    tracing::debug!("the watch is listed anew: {}", chain(&error));
                }
                Err(error) => to.failed(&error),
            }
        }
    }
}

/// What is to be done where the API server refuses, to be put behind an error's text.
pub fn hint(error: &watcher::Error) -> &'static str {
    if matches!(code(error), Some(401 | 403)) {
        "; does the service account have the rights that k8s/base gives?"
    } else {
        ""
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// An API server that does not know `sendInitialEvents` says that the request is invalid.
fn no_streams(error: &watcher::Error) -> bool {
    matches!(code(error), Some(400 | 422))
}
