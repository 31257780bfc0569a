//! Asks the API server what it lets this agent ask: by SelfSubjectAccessReviews, which every user who is known may
//! make (`system:basic-user`), so that nothing is read that the agent does not need.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldSelectorRequirement;
use kube::api::PostParams;
use kube::{Api, Client, Error};

use super::api;
use super::client::chain;
use super::text;
use crate::identify::rights::{Answers, NodeObject, Right};

/// Asks for a node object and every right. Each question may take so long.
///
/// # Errors
///
/// Where the API server does not answer, or does not know who asks: why, in one line.
pub async fn ask(client: &Client, node: &str, patience: Duration) -> Result<Answers, String> {
    let nodes: Api<api::Node> = Api::all(client.clone());
    let node_object = match within(patience, nodes.get(node)).await? {
        Ok(_) => NodeObject::There,
        Err(Error::Api(refused)) if refused.code == 404 => NodeObject::Absent,
        Err(Error::Api(refused)) if refused.code == 401 => {
            return Err(format!("it does not know who asks: {}", text::value(&refused.message)));
        }
        Err(Error::Api(refused)) => NodeObject::Untold(text::value(&refused.message)),
        Err(error) => return Err(chain(&error)),
    };
    let [list, watch, get, system, sets, nodes] = Right::ALL.map(|right| review(client, right, node, patience));
    let (list, watch, get, system, sets, nodes) = tokio::join!(list, watch, get, system, sets, nodes);
    let rights = Right::ALL.into_iter().zip([list, watch, get, system, sets, nodes]).collect();
    Ok(Answers { node: node_object, rights })
}

async fn review(client: &Client, right: Right, node: &str, patience: Duration) -> Result<bool, String> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let (verb, group, resource, name) = right.asks(node);
    // As the watch asks: authorizers that know selectors may allow it for this node alone.
    let selector = matches!(right, Right::ListPods | Right::WatchPods).then(|| FieldSelectorAttributes {
        raw_selector: None,
        requirements: Some(vec![FieldSelectorRequirement {
            key: "spec.nodeName".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
    });
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        name,
        field_selector: selector,
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let question = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = within(patience, reviews.create(&PostParams::default(), &question)).await?;
    answer.map(|review| review.status.is_some_and(|status| status.allowed)).map_err(|error| chain(&error))
}

async fn within<T>(patience: Duration, question: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| format!("no answer within {} s", patience.as_secs());
    tokio::time::timeout(patience, question).await.map_err(late)
}
