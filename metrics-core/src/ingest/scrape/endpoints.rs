//! Finds Nodes that have one address, port and path: one machine's usage would be served under several names.
//!
//! Compared is the address that responded, not what the Nodes list: of several addresses only one is used, and a
//! host name may resolve to the address of another Node.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// The hash of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint(u64);

/// The endpoints that responded, with the number of nodes at each.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    hasher: RandomState,
    nodes: HashMap<Endpoint, u32>,
}

impl Endpoints {
    /// Returns the endpoint with this address, port and path.
    pub(super) fn endpoint(&self, address: IpAddr, port: u16, path: &str) -> Endpoint {
        Endpoint(self.hasher.hash_one((address.to_canonical(), port, path)))
    }

    /// Moves a node from one endpoint to another. `None` is a node that did not respond.
    pub(super) fn move_node(&mut self, from: Option<Endpoint>, to: Option<Endpoint>) {
        if from == to {
            return;
        }
        if let Some(from) = from
            && let Some(nodes) = self.nodes.get_mut(&from)
        {
            *nodes -= 1;
            if *nodes == 0 {
                self.nodes.remove(&from);
            }
        }
        if let Some(to) = to {
            *self.nodes.entry(to).or_default() += 1;
        }
    }

    /// Returns whether several nodes are at an endpoint.
    pub(super) fn is_shared(&self, endpoint: Endpoint) -> bool {
        self.nodes.get(&endpoint).is_some_and(|nodes| *nodes > 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::Endpoints;

    #[test]
    fn nodes_share_an_endpoint_only_with_one_address_port_and_path() {
        let mut endpoints = Endpoints::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let a = endpoints.endpoint(address("10.0.0.1"), 10250, "/metrics/resource");
        endpoints.move_node(None, Some(a));
        for other in [
            endpoints.endpoint(address("10.0.0.2"), 10250, "/metrics/resource"),
            endpoints.endpoint(address("10.0.0.1"), 10251, "/metrics/resource"),
            endpoints.endpoint(address("10.0.0.1"), 10250, "/metrics/nodes/b/metrics/resource"),
        ] {
            endpoints.move_node(None, Some(other));
            assert!(!endpoints.is_shared(a) && !endpoints.is_shared(other));
        }
        let b = endpoints.endpoint(address("::ffff:10.0.0.1"), 10250, "/metrics/resource");
        endpoints.move_node(None, Some(b));
        assert!(endpoints.is_shared(a), "the same address, mapped to IPv6");
        // The node fails, or is deleted.
        endpoints.move_node(Some(b), None);
        assert!(!endpoints.is_shared(a));
    }
}
