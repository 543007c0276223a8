//! What happens to the cluster: by users, other controllers, machines and the operator's process.

use crds::{
    Adoption, CertManagerSpec, CertificateSource, Estimator, IssuerReference, KubeletTlsMode, Limits,
    MetricsPipelineSpec, NannyMode, ResourceAmounts, SecretReference, StrategySpec, StrategyType,
};
use fastrand::Rng;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::replicas::Resizing;
use crate::common::ManagedObject;

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not done; kube-apiserver returns an error.
    Rejected,
    /// It is done, but kube-apiserver returns an error.
    DoneButRejected,
    /// It is not done, and kube-apiserver is lost.
    Unreachable,
    /// It is done, and kube-apiserver is lost.
    DoneButUnreachable,
    /// The operator ends before it.
    CrashBefore,
    /// The operator ends after it.
    CrashAfter,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// Seconds pass.
    Wait(i64),
    /// The count of nodes changes.
    Nodes(u32),
    /// The usage of metrics-core changes to this many thousandths of the usual one.
    Usage(u32),
    /// The `number`th write from now on fails.
    Fault { number: u32, fault: Fault },
    /// The operator ends and starts again after this many seconds.
    Down(i64),
    /// The operator's clock is set to this many seconds ahead.
    Clock(i64),
    /// The watch of one kube-apiserver lags this many seconds.
    Lag { server: usize, seconds: i64 },
    /// A pod is deleted.
    Kill(usize),
    /// A pod's probe fails.
    Fail(usize),
    /// All pods' probes fail.
    FailAll,
    /// A pod does not read its Secret any more.
    Freeze(usize),
    /// All pods work again.
    Thaw,
    /// Somebody deletes an object.
    Delete(ManagedObject),
    /// Somebody stores nonsense in a Secret or in the caBundle of an APIService.
    Garble(ManagedObject),
    /// Somebody replaces the labels of an object.
    Relabel(ManagedObject),
    /// Somebody replaces an object by another one of the same name.
    Foreign(ManagedObject),
    /// Somebody removes their objects.
    Withdraw,
    /// The user changes the spec.
    Spec(SpecChange),
    /// The user, or cert-manager, stores another certificate, maybe of another CA.
    Renew { new_ca: bool },
    /// The operator is installed into another namespace.
    Move(usize),
    /// A VerticalPodAutoscaler is created or deleted.
    Autoscaler(bool),
    /// The nodes have no room for more.
    Full(bool),
    /// The cluster handles in-place resizes in another way.
    Resizing(Resizing),
    /// The user deletes the MetricsPipeline, and creates another one when it is gone.
    Recreate,
}

/// A change of the spec.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SpecChange {
    Replicas(i32),
    Image(u8),
    /// In hours: of the CA, and of the serving certificate.
    Validity(u32, u32),
    Source(CertificateSource),
    Nanny(NannyMode),
    Estimator(Estimator),
    Limits(Limits),
    MaxMemory(Option<u32>),
    Adopt(bool),
    Kubelet(KubeletTlsMode),
    Recreate(bool),
    Label(u8),
}

impl SpecChange {
    pub(super) fn apply(&self, spec: &mut MetricsPipelineSpec) {
        let hours =
            |hours: u32| kube::core::Duration::from(std::time::Duration::from_secs(u64::from(hours) * 3600));
        match self {
            Self::Replicas(replicas) => spec.metrics_core.replicas = *replicas,
            Self::Image(image) => spec.metrics_core.image = Some(format!("metrics-core:{image}")),
            Self::Validity(ca, serving) => {
                spec.certificates.ca_validity = hours(*ca);
                spec.certificates.serving_validity = hours(*serving);
            }
            Self::Source(source) => {
                let certificates = &mut spec.certificates;
                certificates.source = *source;
                certificates.secret_ref = (*source == CertificateSource::Secret)
                    .then(|| SecretReference { name: "company".to_owned() });
                certificates.cert_manager = (*source == CertificateSource::CertManager).then(|| {
                    let (name, kind) = ("company".to_owned(), "ClusterIssuer".to_owned());
                    CertManagerSpec {
                        issuer_ref: IssuerReference { name, kind, group: "cert-manager.io".to_owned() },
                    }
                });
            }
            Self::Nanny(mode) => spec.nanny.mode = *mode,
            Self::Estimator(estimator) => spec.nanny.estimator = *estimator,
            Self::Limits(limits) => spec.nanny.limits = *limits,
            Self::MaxMemory(mebi) => {
                spec.nanny.max = mebi
                    .map(|mebi| ResourceAmounts { cpu: None, memory: Some(Quantity(format!("{mebi}Mi"))) });
            }
            Self::Adopt(adopt) => {
                spec.api_service.adoption = if *adopt { Adoption::Adopt } else { Adoption::Never };
            }
            Self::Kubelet(mode) => spec.metrics_core.kubelet.tls.mode = *mode,
            Self::Recreate(recreate) => {
                spec.metrics_core.strategy =
                    recreate.then_some(StrategySpec { type_: StrategyType::Recreate, rolling_update: None });
            }
            Self::Label(value) => {
                spec.common_metadata.labels.insert("team".to_owned(), value.to_string());
            }
        }
    }

    fn any(random: &mut Rng) -> Self {
        match random.u8(..14) {
            0 | 1 => Self::Replicas(random.i32(1..=3)),
            2 => Self::Image(random.u8(..4)),
            3 | 4 => {
                let ca = [2, 24, 24 * 7, 24 * 90, 24 * 365][random.usize(..5)];
                let serving = [1, 12, 24 * 7, 24 * 30][random.usize(..4)];
                Self::Validity(ca, serving.min(ca))
            }
            5 | 6 => Self::Source(
                [CertificateSource::SelfSigned, CertificateSource::Secret, CertificateSource::CertManager]
                    [random.usize(..3)],
            ),
            7 => Self::Nanny([NannyMode::Off, NannyMode::Recommend, NannyMode::Apply][random.usize(..3)]),
            8 => Self::Estimator(
                [Estimator::Measured, Estimator::Linear, Estimator::Exponential][random.usize(..3)],
            ),
            9 => Self::Limits(if random.bool() { Limits::Same } else { Limits::MemoryOnly }),
            10 => Self::MaxMemory(random.bool().then(|| random.u32(40..300))),
            11 => Self::Adopt(random.bool()),
            12 => Self::Kubelet(
                [KubeletTlsMode::Verify, KubeletTlsMode::Pin, KubeletTlsMode::Insecure][random.usize(..3)],
            ),
            _ if random.bool() => Self::Recreate(random.bool()),
            _ => Self::Label(random.u8(..3)),
        }
    }
}

/// Returns the spec at the beginning, and what happens then.
pub(super) fn history(seed: u64) -> Vec<Event> {
    let mut random = Rng::with_seed(seed);
    let mut events: Vec<_> =
        (0..random.usize(..4)).map(|_| Event::Spec(SpecChange::any(&mut random))).collect();
    if random.u8(..4) > 0 {
        // Most histories begin with an installation that is complete.
        events.push(Event::Wait(300));
    }
    for _ in 0..random.usize(3..16) {
        events.push(any(&mut random));
        if random.u8(..3) > 0 {
            events.push(Event::Wait(some_time(&mut random)));
        }
    }
    events
}

/// From a second to two months, evenly on a logarithmic scale.
fn some_time(random: &mut Rng) -> i64 {
    let most = 1 << random.u32(1..23);
    random.i64(1..=most)
}

fn any(random: &mut Rng) -> Event {
    const SECRETS: [ManagedObject; 2] = [ManagedObject::CaSecret, ManagedObject::ServingSecret];
    const KINDS: [Fault; 6] = [
        Fault::Rejected,
        Fault::DoneButRejected,
        Fault::Unreachable,
        Fault::DoneButUnreachable,
        Fault::CrashBefore,
        Fault::CrashAfter,
    ];
    let object = |random: &mut Rng| ManagedObject::ALL[random.usize(..ManagedObject::ALL.len())];
    match random.u8(..44) {
        0..4 => Event::Spec(SpecChange::any(random)),
        4..9 => {
            // A write early in the next rounds, most of the time.
            let most = if random.bool() { 4 } else { 25 };
            Event::Fault { number: random.u32(..most), fault: KINDS[random.usize(..KINDS.len())] }
        }
        9 => Event::Down(some_time(random)),
        10 | 11 => Event::Clock(
            [0, 61, -61, 299, -299, 600, -600, 86_400, -86_400, 40 * 86_400, -40 * 86_400]
                [random.usize(..11)],
        ),
        12 => Event::Lag { server: random.usize(..super::SERVERS), seconds: random.i64(..58) },
        13 | 14 => Event::Kill(random.usize(..4)),
        15 => Event::Fail(random.usize(..4)),
        16 => Event::FailAll,
        17 => Event::Freeze(random.usize(..4)),
        18 | 19 => Event::Thaw,
        20 => Event::Delete(object(random)),
        21 | 22 => Event::Delete(SECRETS[random.usize(..2)]),
        23 => Event::Garble(SECRETS[random.usize(..2)]),
        24 => Event::Garble(ManagedObject::API_SERVICES[random.usize(..2)]),
        25 => Event::Relabel(object(random)),
        26 => Event::Foreign(
            [
                ManagedObject::Service,
                ManagedObject::DisruptionBudget,
                ManagedObject::ConfigMap,
                ManagedObject::ApiServiceV1beta1,
                ManagedObject::ApiServiceV1,
                ManagedObject::AggregatedReaderRole,
            ][random.usize(..6)],
        ),
        27 => Event::Withdraw,
        28 | 29 => Event::Renew { new_ca: random.bool() },
        30 | 31 => Event::Move(random.usize(..super::NAMESPACES.len())),
        32 => Event::Autoscaler(random.bool()),
        33 | 34 => Event::Full(random.bool()),
        35 => Event::Resizing([Resizing::Works, Resizing::Unserved, Resizing::Infeasible][random.usize(..3)]),
        36 => Event::Recreate,
        37..40 => Event::Nodes([0, 1, 3, 30, 300, 1000, 5000][random.usize(..7)]),
        40 => Event::Usage(random.u32(300..4000)),
        _ => Event::Wait(some_time(random)),
    }
}
