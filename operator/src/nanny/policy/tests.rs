use super::super::Population;
use super::super::measured::{UsageModel, cpu_step, memory_step};
use super::super::size::{MAX_CPU, MAX_MEMORY};
use super::*;
use crate::nanny::{Nanny, NannyInput};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn policy(nanny: Value) -> Policy {
    Policy::new(&serde_json::from_value(json!({ "nanny": nanny })).expect("a spec"))
}

#[test]
fn bounds_in_the_spec_override_the_defaults() {
    let bounds = |nanny: Value| {
        let policy = policy(nanny);
        (policy.min.to_string(), policy.max.to_string())
    };
    let text = |least: &str, most: &str| (least.to_owned(), most.to_owned());
    assert_eq!(bounds(json!({})), text("20m CPU and 64Mi memory", "4 CPU and 8192Mi memory"));
    // A CPU minimum above the default maximum, and a memory maximum.
    assert_eq!(
        bounds(json!({ "min": { "cpu": 8 }, "max": { "memory": "16Gi" } })),
        text("8 CPU and 64Mi memory", "8 CPU and 16384Mi memory")
    );
    // A memory maximum below the default minimum, and a CPU minimum.
    assert_eq!(
        bounds(json!({ "min": { "cpu": "1" }, "max": { "memory": "32Mi" } })),
        text("1 CPU and 32Mi memory", "4 CPU and 32Mi memory")
    );
    // kube-apiserver rejects it, but an object stored before must not panic.
    let crossed = json!({ "min": { "memory": "2Gi" }, "max": { "memory": "1Gi" } });
    assert_eq!(bounds(crossed), text("20m CPU and 2048Mi memory", "4 CPU and 2048Mi memory"));
}

/// Generates CPU quantities that `spec.nanny.cpu` and `extraCpu` admit, up to 1,000 cores.
fn cpu() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..=1000_i64).prop_map(|cores| json!(cores)),
        (1..=1_000_000_u64).prop_map(|milli| json!(format!("{milli}m"))),
        (1..=1_000_000_000_u64).prop_map(|micro| json!(format!("{micro}u"))),
        (1..=u64::from(u32::MAX)).prop_map(|nano| json!(format!("{nano}n"))),
        (0..1000_u32, 1..=999_u32).prop_map(|(whole, part)| json!(format!("{whole}.{part:03}"))),
        (1..=9_u32, -9..=2_i32).prop_map(|(digit, power)| json!(format!("{digit}e{power}"))),
        Just(json!("1k")),
    ]
}

/// Generates memory quantities, up to 16 TiB.
fn memory() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..=16_i64 << 40).prop_map(|bytes| json!(bytes)),
        (1..=16_u64 << 10).prop_map(|gibi| json!(format!("{gibi}Gi"))),
        (1..=16_u64 << 20).prop_map(|mebi| json!(format!("{mebi}Mi"))),
        (1..=16_u64 << 30).prop_map(|kibi| json!(format!("{kibi}Ki"))),
        (1..=17_000_000_u64).prop_map(|mega| json!(format!("{mega}M"))),
        (1..=1_000_000_u64).prop_map(|milli| json!(format!("{milli}m"))),
        (1..=9_u32, 0..=12_i32).prop_map(|(digit, power)| json!(format!("{digit}e{power}"))),
    ]
}

/// Generates an optional minimum and maximum of an amount, both positive.
fn bounds(
    amount: impl Strategy<Value = Value> + Clone,
) -> impl Strategy<Value = (Option<Value>, Option<Value>)> {
    (proptest::option::of(amount.clone()), proptest::option::of(amount))
}

/// Generates the fields of `spec.nanny` that affect sizes.
fn admitted() -> impl Strategy<Value = Value> {
    let formula = (cpu(), cpu(), memory(), memory());
    let bounds = (bounds(cpu().boxed()), bounds(memory().boxed()));
    let kinds = (0..3_usize, any::<bool>(), any::<bool>());
    (kinds, formula, bounds, 0..=99_i32, 2..=100_000_i32).prop_map(
        |((estimator, by_containers, is_same), formula, (cpus, memories), threshold, smallest)| {
            let estimator = ["Measured", "Linear", "Exponential"][estimator];
            let mut nanny = json!({
                "estimator": estimator,
                "scalingMode": if by_containers { "ContainerProportional" } else { "NodeProportional" },
                "limits": if is_same { "Same" } else { "MemoryOnly" },
                "cpu": formula.0, "extraCpu": formula.1, "memory": formula.2, "extraMemory": formula.3,
                "threshold": threshold, "minClusterSize": smallest, "min": {}, "max": {},
            });
            for (amount, (min, max)) in [("cpu", cpus), ("memory", memories)] {
                for (bound, value) in [("min", min), ("max", max)] {
                    if let Some(value) = value {
                        nanny[bound][amount] = value;
                    }
                }
            }
            nanny
        },
    )
}

/// Returns the estimate of a policy, within its bounds as [`Nanny`] does it.
fn estimate(policy: &Policy, number: u64) -> Size {
    let population = Population::new(policy.scaling_mode, number);
    policy.by_formula(number).unwrap_or_else(|| {
        let size = UsageModel::default().estimate(population, None, None, policy.min).expect("a size");
        let stepped = Size { cpu: cpu_step(size.cpu), memory: memory_step(size.memory) };
        stepped.clamp(policy.min, policy.max)
    })
}

proptest! {
    /// For all values that the schema admits, both scaling modes and all estimators.
    #[test]
    fn admitted_values_give_finite_positive_and_monotone_sizes(
        nanny in admitted(), number in prop_oneof![0..10_000_u64, any::<u64>()], more in any::<u64>(),
    ) {
        let policy = policy(nanny);
        prop_assert!(policy.min.cpu <= policy.max.cpu && policy.min.memory <= policy.max.memory);
        let (small, large) = (estimate(&policy, number), estimate(&policy, number.saturating_add(more)));
        prop_assert!(small.cpu >= 1 && small.memory >= 1, "{small}");
        prop_assert!(small.cpu <= large.cpu && small.memory <= large.memory, "{small}, {large}");
        prop_assert!(large.cpu <= MAX_CPU && large.memory <= MAX_MEMORY, "{large}");
        // It is the initial size, and its quantities parse to the same size.
        let now = Timestamp::UNIX_EPOCH;
        let input = NannyInput { population: Some(number), usage: None, current_memory: None, last_oom_kill: None, now };
        let recommended = Nanny::default().recommend(policy, None, &input).recommended.expect("a size").size;
        prop_assert_eq!(recommended, small);
        prop_assert_eq!(policy.parse_size(&recommended.amounts()), recommended);
    }
}
