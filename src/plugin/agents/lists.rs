//! Lists of the API server, page by page.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{ListParams, ObjectList, PartialObjectMeta};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::ground::text::chain;

const PAGE: u32 = 500;
/// Requests at the same time: those for a thousand nodes take seconds, and the API server has others to serve.
pub(in crate::plugin) const AT_ONCE: usize = 16;

pub(in crate::plugin) async fn list<K: Clone + DeserializeOwned + Debug>(
    api: &Api<K>,
    params: ListParams,
    timeout: Duration,
) -> Result<Vec<K>, String> {
    list_up_to(usize::MAX, api, params, timeout).await
}

/// Lists objects, and stops after the page with which there are `most`.
pub(in crate::plugin) async fn list_up_to<K: Clone + DeserializeOwned + Debug>(
    most: usize,
    api: &Api<K>,
    params: ListParams,
    timeout: Duration,
) -> Result<Vec<K>, String> {
    pages(most, params, timeout, |params| async move { api.list(&params).await }).await
}

/// Lists the metadata of objects, and stops after the page with which there are `most`.
pub(in crate::plugin) async fn list_metadata<K: Clone + DeserializeOwned + Debug>(
    most: usize,
    api: &Api<K>,
    params: ListParams,
    timeout: Duration,
) -> Result<Vec<PartialObjectMeta<K>>, String> {
    pages(most, params, timeout, |params| async move { api.list_metadata(&params).await }).await
}

async fn pages<T: Clone, F: Future<Output = kube::Result<ObjectList<T>>>>(
    most: usize,
    params: ListParams,
    timeout: Duration,
    list: impl Fn(ListParams) -> F,
) -> Result<Vec<T>, String> {
    let (mut params, mut all) = (params.limit(PAGE), Vec::new());
    loop {
        let page = match tokio::time::timeout(timeout, list(params.clone())).await {
            Ok(page) => page.map_err(|error| in_words(&error))?,
            Err(_) => return Err(format!("the API server did not answer within {timeout:?}")),
        };
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty() && all.len() < most) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn in_words(error: &kube::Error) -> String {
    match error {
        // The error's own text has the whole answer in it, as code.
        kube::Error::Api(status) => format!("{}: {}", status.code, status.message),
        other => chain(other),
    }
}

/// The objects of a namespace, or of all.
pub(in crate::plugin) fn api_in<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
