use super::super::measured::{Learned, Population, cpu_step, memory_step};
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
fn what_the_user_names_counts_before_our_own_bounds_amount_by_amount() {
    let bounds = |nanny: Value| {
        let policy = policy(nanny);
        (policy.least.to_string(), policy.most.to_string())
    };
    let text = |least: &str, most: &str| (least.to_owned(), most.to_owned());
    assert_eq!(bounds(json!({})), text("20m CPU and 64Mi memory", "4 CPU and 8192Mi memory"));
    // A minimum above our ceiling, beside a maximum of the other amount.
    assert_eq!(
        bounds(json!({ "min": { "cpu": 8 }, "max": { "memory": "16Gi" } })),
        text("8 CPU and 64Mi memory", "8 CPU and 16384Mi memory")
    );
    // A maximum below our floor, beside a minimum of the other amount.
    assert_eq!(
        bounds(json!({ "min": { "cpu": "1" }, "max": { "memory": "32Mi" } })),
        text("1 CPU and 32Mi memory", "4 CPU and 32Mi memory")
    );
    // kube-apiserver does not admit it; what is stored already must not end in a panic.
    let crossed = json!({ "min": { "memory": "2Gi" }, "max": { "memory": "1Gi" } });
    assert_eq!(bounds(crossed), text("20m CPU and 2048Mi memory", "4 CPU and 2048Mi memory"));
}

/// CPU as people write it: what `spec.nanny.cpu` and `extraCpu` admit, up to 1,000 cores.
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

/// Memory likewise, up to 16 TiB.
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

/// A minimum and a maximum of an amount; above zero is all that is asked of each.
fn bounds(
    amount: impl Strategy<Value = Value> + Clone,
) -> impl Strategy<Value = (Option<Value>, Option<Value>)> {
    (proptest::option::of(amount.clone()), proptest::option::of(amount))
}

/// Everything of `spec.nanny` that sizes follow.
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

/// What the estimator of a policy gives for so many nodes or containers, bounded as [`Nanny`] does it.
fn estimate(policy: &Policy, number: u64) -> Size {
    let population = match policy.counts {
        ScalingMode::NodeProportional => Population::Nodes(number),
        ScalingMode::ContainerProportional => Population::Containers(number),
    };
    policy.by_formula(number).unwrap_or_else(|| {
        let want = Learned::default().want(population, None, None, policy.least).expect("a size");
        let stepped = Size { cpu: cpu_step(want.cpu), memory: memory_step(want.memory) };
        stepped.within(policy.least, policy.most)
    })
}

proptest! {
    /// Of everything that the schema admits, by nodes and by containers, for all estimators.
    #[test]
    fn whatever_is_admitted_gives_finite_positive_and_monotone_sizes(
        nanny in admitted(), number in prop_oneof![0..10_000_u64, any::<u64>()], more in any::<u64>(),
    ) {
        let policy = policy(nanny);
        prop_assert!(policy.least.cpu <= policy.most.cpu && policy.least.memory <= policy.most.memory);
        let (small, large) = (estimate(&policy, number), estimate(&policy, number.saturating_add(more)));
        prop_assert!(small.cpu >= 1 && small.memory >= 1, "{small}");
        prop_assert!(small.cpu <= large.cpu && small.memory <= large.memory, "{small}, {large}");
        prop_assert!(large.cpu <= MAX_CPU && large.memory <= MAX_MEMORY, "{large}");
        // The nanny begins with it, and Kubernetes can read what is written of it.
        let now = Timestamp::UNIX_EPOCH;
        let sight = NannyInput { population: Some(number), usage: None, present: None, killed: None, now };
        let recommended = Nanny::default().step(policy, None, &sight).recommended.expect("a size").size;
        prop_assert_eq!(recommended, small);
        prop_assert_eq!(policy.read(&recommended.amounts()), recommended);
    }
}
