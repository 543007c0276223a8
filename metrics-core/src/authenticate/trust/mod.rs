//! Which certificates and headers are trusted, live.
//!
//! From the flags, or from ConfigMap kube-system/extension-apiserver-authentication, which every kube-apiserver
//! merges its own settings into. [`config_map`] reads it (pure), [`source`] follows it and the files.

mod config_map;
mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::Anchors;

pub use config_map::FromConfigMap;
pub use crds::extension_apiserver_authentication::{CONFIG_MAP, Finding};
pub use source::{follow_config_map, follow_file, read_file};

/// What is trusted at one moment.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Grows with each change.
    pub generation: u64,
    /// The front proxies; `None` trusts no headers.
    pub front_proxy: Option<FrontProxy>,
    /// The CAs of client certificates; `None` ignores client certificates.
    pub client_ca: Option<Anchors>,
}

/// Front proxies whose headers are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// The CAs of their certificates.
    pub anchors: Anchors,
    /// The common names they may have; empty allows all.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name.
    pub username_headers: Vec<String>,
    /// Headers with the user's groups.
    pub group_headers: Vec<String>,
    /// Prefixes of headers with extra attributes, lower case.
    pub extra_prefixes: Vec<String>,
    /// Headers with the user's UID.
    pub uid_headers: Vec<String>,
}

/// The trust of this moment, put together from its sources.
pub struct LiveTrust {
    current: ArcSwap<Trust>,
    parts: Mutex<Parts>,
    /// Whether the ConfigMap was read, or need not be.
    looked_up: AtomicBool,
}

/// Files precede the ConfigMap, each for its own purpose, as in k8s.io/apiserver.
#[derive(Default)]
struct Parts {
    front_proxy_flags: Option<FrontProxy>,
    client_ca_flags: Option<Anchors>,
    config_map: FromConfigMap,
}

impl LiveTrust {
    /// Trusts nobody yet. `awaits_lookup`: [`Self::ready`] waits for the ConfigMap.
    #[must_use]
    pub fn new(awaits_lookup: bool) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::default(),
            parts: Mutex::default(),
            looked_up: AtomicBool::new(!awaits_lookup),
        })
    }

    /// Whether the configuration that is needed was read.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.looked_up.load(Ordering::Acquire)
    }

    /// The trust of this moment.
    #[must_use]
    pub fn load(&self) -> Arc<Trust> {
        self.current.load_full()
    }

    /// Trusts this front proxy, whatever the ConfigMap says.
    pub fn set_front_proxy(&self, front_proxy: FrontProxy) {
        self.change(|parts| parts.front_proxy_flags = Some(front_proxy));
    }

    /// Trusts these CAs for client certificates, whatever the ConfigMap says.
    pub fn set_client_ca(&self, anchors: Anchors) {
        self.change(|parts| parts.client_ca_flags = Some(anchors));
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock();
        change(&mut parts);
        let front_proxy = parts.front_proxy_flags.clone().or_else(|| parts.config_map.front_proxy());
        let client_ca = parts.client_ca_flags.clone().or_else(|| parts.config_map.client_ca().cloned());
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(Trust { generation, front_proxy, client_ca }));
    }
}
