//! The trusted certificates and headers, which change at run time.
//!
//! They come from flags, or from ConfigMap kube-system/extension-apiserver-authentication, into which every
//! kube-apiserver merges its own settings. [`config_map`] parses it, [`source`] watches it and the files.

mod config_map;
mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::Anchors;

pub use config_map::FromConfigMap;
pub(crate) use crds::extension_apiserver_authentication::{CONFIG_MAP, Finding};
pub(crate) use source::{follow_config_map, follow_file, read_file};

/// The trusted certificates and headers at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Incremented with each change.
    pub(crate) generation: u64,
    /// The front proxy; `None` ignores its headers.
    pub(crate) front_proxy: Option<FrontProxy>,
    /// The CAs of client certificates; `None` ignores client certificates.
    pub(crate) client_ca: Option<Anchors>,
}

/// The front proxy whose headers are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// The CAs of its certificate.
    pub anchors: Anchors,
    /// The allowed common names; empty allows all.
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

/// The current [`Trust`], merged from its sources.
pub struct LiveTrust {
    current: ArcSwap<Trust>,
    sources: Mutex<TrustSources>,
    /// Whether the ConfigMap has been read or is not needed.
    looked_up: AtomicBool,
}

/// The sources. Files take precedence over the ConfigMap, each for its purpose, as in k8s.io/apiserver.
#[derive(Default)]
struct TrustSources {
    front_proxy_flags: Option<FrontProxy>,
    client_ca_flags: Option<Anchors>,
    config_map: FromConfigMap,
}

impl LiveTrust {
    /// Returns a trust that is empty. With `awaits_lookup`, [`Self::ready`] is false until the ConfigMap has been read.
    #[must_use]
    pub fn new(awaits_lookup: bool) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::default(),
            sources: Mutex::default(),
            looked_up: AtomicBool::new(!awaits_lookup),
        })
    }

    /// Returns whether the required configuration has been read.
    #[must_use]
    pub(crate) fn ready(&self) -> bool {
        self.looked_up.load(Ordering::Acquire)
    }

    /// Returns the current trust.
    #[must_use]
    pub(crate) fn load(&self) -> Arc<Trust> {
        self.current.load_full()
    }

    /// Sets the front proxy, which overrides that of the ConfigMap.
    pub fn set_front_proxy(&self, front_proxy: FrontProxy) {
        self.change(|sources| sources.front_proxy_flags = Some(front_proxy));
    }

    /// Sets the CAs of client certificates, which override those of the ConfigMap.
    pub fn set_client_ca(&self, anchors: Anchors) {
        self.change(|sources| sources.client_ca_flags = Some(anchors));
    }

    fn change(&self, change: impl FnOnce(&mut TrustSources)) {
        let mut sources = self.sources.lock();
        change(&mut sources);
        let front_proxy = sources.front_proxy_flags.clone().or_else(|| sources.config_map.front_proxy());
        let client_ca = sources.client_ca_flags.clone().or_else(|| sources.config_map.client_ca().cloned());
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(Trust { generation, front_proxy, client_ca }));
    }
}
