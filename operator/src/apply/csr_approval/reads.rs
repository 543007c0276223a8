//! Reads what requests are checked against. Every list is read in pages, and nothing of it is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::core::ApiResource;
use kube::{Api, Client};

use crate::common::error_chain;
use crate::csr::{Network, NodeNames, NotApproved, PartialNode};

/// The timeout of a request to kube-apiserver.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of a list of all Nodes, page by page.
const NODES_TIMEOUT: Duration = Duration::from_secs(60);

/// The count of Nodes in a page: a Node has up to 40 kB, most of it the list of its images.
const PAGE: u32 = 50;

/// The maximum count of ServiceCIDRs.
const MAX_SERVICE_CIDRS: u32 = 500;

/// The maximum count of concurrent requests.
pub(super) const CONCURRENT: usize = 8;

/// Waits for a response, and describes its error.
pub(super) async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(response) => response.map_err(|error| error_chain(&error)),
        Err(_) => Err(format!("kube-apiserver did not respond within {} s", TIMEOUT.as_secs())),
    }
}

fn node_api(client: &Client) -> Api<PartialNode> {
    Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()))
}

/// Returns the Nodes of these names that exist.
pub(super) async fn nodes(
    client: &Client,
    names: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, NodeNames>, String> {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    let api = &node_api(client);
    futures::stream::iter(names)
        .map(|name| async move {
            let node = within(api.get_opt(&name)).await?;
            Ok(node.map(|node| (name, NodeNames::of(&node))))
        })
        .buffer_unordered(CONCURRENT)
        .try_filter_map(|found| std::future::ready(Ok(found)))
        .try_collect()
        .await
}

/// Passes each Node of the cluster to `each`.
pub(super) async fn each_node(client: &Client, mut each: impl FnMut(PartialNode)) -> Result<(), String> {
    let api = node_api(client);
    let pages = async {
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = within(api.list(&parameters)).await?;
            page.items.into_iter().for_each(&mut each);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(()),
            }
        }
    };
    let late = |_| Err(format!("the Nodes could not be listed within {} s", NODES_TIMEOUT.as_secs()));
    tokio::time::timeout(NODES_TIMEOUT, pages).await.unwrap_or_else(late)
}

/// Returns the ranges of the Services' addresses. A tenant may choose an address for a Service only within them.
pub(super) async fn service_networks(client: &Client) -> Result<Vec<(String, Network)>, String> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    let list = within(api.list(&ListParams::default().limit(MAX_SERVICE_CIDRS))).await?;
    let networks = list.items.into_iter().flat_map(|cidr| {
        let name = cidr.metadata.name.unwrap_or_default();
        let cidrs = cidr.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
        cidrs.into_iter().filter_map(move |cidr| Some((name.clone(), Network::parse(&cidr)?)))
    });
    let networks: Vec<_> = networks.collect();
    if networks.is_empty() {
        return Err(
            "kube-apiserver returned no ServiceCIDR, so the addresses of Services are unknown".to_owned()
        );
    }
    Ok(networks)
}

/// Returns the addresses that a pod has, each with the index that it was requested for. Pods with hostNetwork have the
/// address of their Node. A terminated pod keeps its address in its status, but another machine may have it now.
pub(super) async fn pods_with(
    client: &Client,
    addresses: Vec<(usize, IpAddr)>,
) -> Result<Vec<(usize, NotApproved)>, String> {
    let api: &Api<Pod> = &Api::all(client.clone());
    futures::stream::iter(addresses)
        .map(|(at, address)| async move {
            let of_pods = format!(
                "status.podIP={address},spec.hostNetwork=false,status.phase!=Succeeded,status.phase!=Failed"
            );
            let list = within(api.list_metadata(&ListParams::default().fields(&of_pods).limit(1))).await?;
            let pod = list.items.into_iter().next().map(|pod| pod.metadata);
            Ok(pod.map(|pod| {
                let (namespace, name) = (pod.namespace.unwrap_or_default(), pod.name.unwrap_or_default());
                let owner = format!("pod {namespace}/{name}");
                (at, NotApproved::Shared { name: address.to_string(), owner })
            }))
        })
        .buffer_unordered(CONCURRENT)
        .try_filter_map(|found| std::future::ready(Ok(found)))
        .try_collect()
        .await
}
