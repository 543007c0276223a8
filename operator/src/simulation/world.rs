//! The cluster around the operator: its objects, pods, kube-apiservers, users and clocks.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::{CertificateSource, KeyAlgorithm, MetricsPipelineSpec};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::event::Fault;
use super::operator::{Stop, api_services};
use super::replicas::Replicas;
use super::rules;
use super::store::{Key, Refused, Store};
use crate::common::ManagedObject;
use crate::nanny::Usage;
use crate::observe::Pipeline;
use crate::pki::external::ExternalCertificate;
use crate::pki::{Certificate, Pair, issue_ca, issue_leaf, service_names};
use crate::plan::Desired;

/// When every history begins.
const START: i64 = 1_800_000_000;

/// What became of a write.
pub(super) enum Done {
    /// kube-apiserver responded.
    Yes(Result<(), Refused>),
    /// kube-apiserver returned an error.
    Failed,
}

/// What an APIService tells kube-apiserver.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registration {
    /// The namespace of the Service.
    pub namespace: String,
    /// The `caBundle` in base64.
    pub bundle: String,
    /// Whether it is the operator's.
    pub ours: bool,
}

/// A kube-apiserver.
#[derive(Default)]
pub(super) struct Server {
    /// For how many seconds its watch lags.
    pub lag: i64,
    /// What it knows.
    pub known: BTreeMap<Key, Registration>,
    coming: VecDeque<(i64, Key, Option<Registration>)>,
}

/// Whether the CA of the second public key signed the certificate of the first.
type Signatures = HashMap<(Vec<u8>, Vec<u8>), bool>;

/// The cluster.
pub(super) struct World {
    pub now: i64,
    /// How far the operator's clock is ahead.
    pub ahead: i64,
    pub store: Store,
    pub replicas: Replicas,
    pub pipeline: Option<Pipeline>,
    /// Whether the MetricsPipeline is created again when it is gone.
    pub recreate: bool,
    pub spec: MetricsPipelineSpec,
    created: u32,
    pub nodes: u32,
    pub usage_permille: u32,
    /// The certificate of the user or of cert-manager, in a namespace.
    pub source: Option<(&'static str, ExternalCertificate)>,
    issuer: Option<Pair>,
    pub servers: Vec<Server>,
    published: BTreeMap<Key, Registration>,
    pub fault: Option<(u32, Fault)>,
    /// Whether every connection of kube-apiserver must succeed: nobody destroyed what that needs.
    pub armed: bool,
    /// Changes with whatever the operator can notice beside objects and pods.
    pub changes: u64,
    /// What happened, for the report of a failure.
    pub trace: Option<Vec<String>>,
    certificates: RefCell<HashMap<String, Arc<Vec<Arc<Certificate>>>>>,
    signed: RefCell<Signatures>,
}

impl World {
    pub(super) fn new(seed: u64, verbose: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = Self {
            now: START,
            ahead: 0,
            store: Store::default(),
            replicas: Replicas::new(seed),
            pipeline: None,
            recreate: false,
            spec: MetricsPipelineSpec::default(),
            created: 0,
            nodes: 3,
            usage_permille: 1000,
            source: None,
            issuer: None,
            servers: (0..super::SERVERS)
                .map(|_| Server { lag: random.i64(..58), ..Server::default() })
                .collect(),
            published: BTreeMap::new(),
            fault: None,
            armed: true,
            changes: 0,
            trace: verbose.then(Vec::new),
            certificates: RefCell::default(),
            signed: RefCell::default(),
        };
        world.create_pipeline();
        world
    }

    pub(super) fn note(&mut self, note: impl FnOnce() -> String) {
        let at = self.now - START;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:>9} s  {}", note()));
        }
    }

    /// Returns the operator's clock.
    pub(super) fn clock(&self) -> Timestamp {
        self.time() + SignedDuration::from_secs(self.ahead)
    }

    /// Returns the true time.
    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).expect("a time")
    }

    pub(super) fn create_pipeline(&mut self) {
        self.created += 1;
        self.changes += 1;
        let uid = format!("pipeline-{}", self.created);
        self.pipeline = Some(Pipeline { uid, ..Pipeline::for_test("main", self.spec.clone()) });
    }

    /// Returns the count of ready endpoints of the Service.
    pub(super) fn endpoints(&self, namespace: &str) -> usize {
        let Some(namespace) = super::NAMESPACES.into_iter().find(|known| *known == namespace) else {
            return 0;
        };
        let key = (namespace, ManagedObject::Service);
        if self.store.get(key).is_none() || self.store.is_foreign(key) {
            return 0;
        }
        self.replicas.ready(namespace).count()
    }

    /// Returns the usage of the replicas, once the Metrics API serves it.
    pub(super) fn usage(&self, namespace: &str) -> Option<Usage> {
        let is_served = api_services().into_iter().any(|key| self.store.get(key).is_some());
        if !is_served || self.endpoints(namespace) == 0 {
            return None;
        }
        let of = |base: u64, node: u64| {
            (base + node * u64::from(self.nodes)) * u64::from(self.usage_permille) / 1000
        };
        let sampled = Timestamp::from_second(self.now - self.now % 15).expect("a time");
        Some(Usage { cpu: of(2_000_000, 8_000), memory: of(12 << 20, 48 << 10), sampled })
    }

    /// Sends one write of the operator.
    pub(super) fn write(
        &mut self,
        note: &str,
        write: impl FnOnce(&mut Self) -> Result<(), Refused>,
    ) -> Result<Done, Stop> {
        let fault = match &mut self.fault {
            Some((0, fault)) => Some(*fault),
            Some((number, _)) => {
                *number -= 1;
                None
            }
            None => None,
        };
        if fault.is_some() {
            self.fault = None;
        }
        self.note(|| format!("    {note}{}", fault.map_or(String::new(), |fault| format!("  ! {fault:?}"))));
        match fault {
            Some(Fault::CrashBefore) => return Err(Stop::Crash),
            Some(Fault::Unreachable) => return Err(Stop::Unreachable),
            Some(Fault::Rejected) => return Ok(Done::Failed),
            _ => {}
        }
        let result = write(self);
        self.publish();
        rules::after_write(self).map_err(|why| Stop::Violation(format!("{why}\nafter: {note}")))?;
        match fault {
            Some(Fault::CrashAfter) => Err(Stop::Crash),
            Some(Fault::DoneButUnreachable) => Err(Stop::Unreachable),
            Some(Fault::DoneButRejected) => Ok(Done::Failed),
            _ => Ok(Done::Yes(result)),
        }
    }

    pub(super) fn apply(&mut self, note: &str, key: Key, desired: &Desired) -> Result<Done, Stop> {
        rules::may_apply(self, key, desired).map_err(|why| Stop::Violation(format!("{why}\nby: {note}")))?;
        let version = desired.resource_version.as_deref();
        self.write(note, |world| world.store.apply(key, desired.manager, &desired.body, version))
    }

    pub(super) fn delete(&mut self, note: &str, key: Key, uid: &str) -> Result<Done, Stop> {
        rules::may_delete(self, key, uid).map_err(|why| Stop::Violation(format!("{why}\nby: {note}")))?;
        let now = self.time();
        self.write(note, |world| world.store.delete(key, Some(uid), now))
    }

    /// Sends changed APIServices to the kube-apiservers.
    pub(super) fn publish(&mut self) {
        for key in api_services() {
            let current = self.registration(key);
            if self.published.get(&key) == current.as_ref() {
                continue;
            }
            match &current {
                Some(current) => _ = self.published.insert(key, current.clone()),
                None => _ = self.published.remove(&key),
            }
            for server in &mut self.servers {
                let last = server.coming.back().map_or(0, |(at, ..)| *at);
                server.coming.push_back(((self.now + server.lag).max(last), key, current.clone()));
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        for server in &mut self.servers {
            while server.coming.front().is_some_and(|(at, ..)| *at <= self.now) {
                match server.coming.pop_front() {
                    Some((_, key, Some(registration))) => _ = server.known.insert(key, registration),
                    Some((_, key, None)) => _ = server.known.remove(&key),
                    None => {}
                }
            }
        }
    }

    /// Returns what an APIService says now.
    pub(super) fn registration(&self, key: Key) -> Option<Registration> {
        let found = self.store.get(key)?;
        let text = |pointer: &str| {
            found.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Some(Registration {
            namespace: text("/spec/service/namespace"),
            bundle: text("/spec/caBundle"),
            ours: !self.store.is_foreign(key),
        })
    }

    /// Lets all but the operator do what is due now.
    pub(super) fn step(&mut self, namespace: &'static str) {
        if self.pipeline.is_none() {
            // The garbage collector.
            let owned: Vec<_> =
                self.store.keys().filter(|key| !self.store.is_foreign(**key)).copied().collect();
            for key in owned {
                self.store.remove(key);
            }
            if self.recreate {
                self.recreate = false;
                self.create_pipeline();
            }
        }
        if self.pipeline.as_ref().is_some_and(|pipeline| pipeline.deleting && pipeline.finalizers.is_empty())
        {
            self.pipeline = None;
            self.changes += 1;
        }
        self.cert_manager(namespace);
        self.renew_when_due(namespace);
        let secrets = super::NAMESPACES.map(|namespace| {
            let key = (namespace, ManagedObject::ServingSecret);
            (namespace, (self.store.changed(key), self.usable(key)))
        });
        self.replicas.step(&mut self.store, &secrets.into(), self.now);
        self.publish();
    }

    /// Returns the certificate of a Secret that metrics-core can serve.
    fn usable(&self, key: Key) -> Option<Arc<Certificate>> {
        let data = &self.store.get(key)?.data["data"];
        data["tls.key"].as_str()?;
        self.parse(data["tls.crt"].as_str()?).first().cloned()
    }

    /// Returns the certificate and the end of its validity of a Secret.
    pub(super) fn stored(&self, key: Key) -> Option<Arc<Certificate>> {
        self.parse(self.store.get(key)?.data["data"]["tls.crt"].as_str()?).first().cloned()
    }

    /// Parses PEM in base64; once, as most is parsed again and again.
    pub(super) fn parse(&self, encoded: &str) -> Arc<Vec<Arc<Certificate>>> {
        if let Some(known) = self.certificates.borrow().get(encoded) {
            return known.clone();
        }
        let pem = STANDARD.decode(encoded).unwrap_or_default();
        let parsed = Certificate::parse_pem(&pem).unwrap_or_default().into_iter().map(Arc::new).collect();
        let parsed: Arc<Vec<_>> = Arc::new(parsed);
        self.certificates.borrow_mut().insert(encoded.to_owned(), parsed.clone());
        parsed
    }

    /// Whether a bundle has the CA of a certificate. Validity is another matter.
    pub(super) fn trusts(&self, bundle: &str, leaf: &Certificate) -> bool {
        self.parse(bundle).iter().any(|ca| {
            let names = (leaf.public_key.clone(), ca.public_key.clone());
            if let Some(known) = self.signed.borrow().get(&names) {
                return *known;
            }
            let signed = leaf.is_server_certificate_of(ca, leaf.issued().max(ca.issued()));
            self.signed.borrow_mut().insert(names, signed);
            signed
        })
    }

    /// Whether cert-manager has issued the Certificate.
    pub(super) fn is_issued(&self, namespace: &'static str) -> bool {
        let Some(found) = self.store.get((namespace, ManagedObject::Certificate)) else { return false };
        found.data["status"]["conditions"][0]["observedGeneration"] == json!(found.metadata.generation)
    }

    /// cert-manager issues a new certificate for a Certificate that is new or was changed.
    fn cert_manager(&mut self, namespace: &'static str) {
        let key = (namespace, ManagedObject::Certificate);
        let Some(found) = self.store.get(key) else { return };
        if self.is_issued(namespace) || self.store.is_foreign(key) {
            return;
        }
        let generation = found.metadata.generation;
        self.renew_source(namespace, false);
        self.store.edit(key, |object| {
            object["status"] = json!({ "conditions": [
                { "type": "Ready", "status": "True", "observedGeneration": generation }] });
        });
    }

    /// The owner of the certificate renews it when a third of its validity is left.
    fn renew_when_due(&mut self, namespace: &'static str) {
        if self.spec.certificates.source == CertificateSource::SelfSigned {
            return;
        }
        let due = self.source.as_ref().is_none_or(|(known, source)| {
            let pem =
                source.pair.as_ref().map(|(certificate, _)| STANDARD.encode(certificate)).unwrap_or_default();
            let left = self.parse(&pem).first().map(|one| one.not_after.as_second() - self.now);
            *known != namespace || left.is_none_or(|left| left < 30 * 86_400)
        });
        if due {
            self.renew_source(namespace, false);
        }
    }

    /// The user or cert-manager stores another certificate.
    pub(super) fn renew_source(&mut self, namespace: &'static str, new_ca: bool) {
        const DAY: Duration = Duration::from_secs(86_400);
        let now = self.time();
        let end =
            |pair: &Pair| Certificate::parse_pem(pair.certificate.as_bytes()).expect("PEM")[0].not_after;
        let issuer = self.issuer.take().filter(|issuer| !new_ca && end(issuer) > now + 100 * DAY);
        let algorithm = KeyAlgorithm::ECDSAP256;
        let issuer =
            issuer.unwrap_or_else(|| issue_ca("company CA", algorithm, 1000 * DAY, now).expect("a CA"));
        let names = service_names("metrics-core", namespace);
        let leaf =
            issue_leaf(&issuer, end(&issuer), &names, algorithm, 90 * DAY, now).expect("a certificate");
        let source = ExternalCertificate {
            pair: Some((leaf.certificate.into_bytes(), leaf.key.expose().as_bytes().to_vec())),
            ca_bundle: Some(issuer.certificate.clone().into_bytes()),
        };
        self.issuer = Some(issuer);
        self.source = Some((namespace, source));
        self.changes += 1;
        self.note(|| "    the source has a new certificate".to_owned());
    }

    /// Returns when something changes on its own.
    pub(super) fn next(&self) -> Option<i64> {
        let coming = self.servers.iter().filter_map(|server| server.coming.front().map(|(at, ..)| *at));
        coming.chain(self.replicas.next(self.now)).min()
    }

    /// Returns a number that changes with whatever the operator can notice.
    pub(super) fn fingerprint(&self) -> (u64, u64, u64) {
        (self.store.version(), self.replicas.version, self.changes)
    }
}
