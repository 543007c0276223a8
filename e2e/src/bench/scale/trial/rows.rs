//! The rows that metrics-core serves, compared with the usage that the fleet's containers really have.

use std::collections::HashSet;

use serde::Deserialize;

use super::super::fleet::samples::{MAX_MEMORY, millicores};
use super::super::population::{CONTAINERS, Pod, Population};
use crate::error::{Doing as _, Error, Result};

/// A served CPU may differ by the larger of these from the true one: rounding, and the start of an idle container.
const TOLERANCE_MILLICORES: f64 = 2.0;
const TOLERANCE: f64 = 0.05;
/// The most memory of a node.
const MAX_NODE_MEMORY: u64 = 9_000_000_000;

/// The result of a comparison.
#[derive(Debug, Default)]
pub(super) struct RowCheck {
    /// The pods that are served with all containers. A pod lacks a container that restarts just now.
    pub(super) pods: HashSet<Pod>,
    /// Number of rows of containers and nodes.
    pub(super) rows: u64,
    /// A line for each row that is wrong.
    pub(super) wrong: Vec<String>,
}

#[derive(Deserialize)]
struct List<Item> {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct PodRow<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    window: &'a str,
    containers: Vec<ContainerRow<'a>>,
}

#[derive(Deserialize)]
struct NodeRow<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    usage: Usage<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
struct ContainerRow<'a> {
    name: &'a str,
    #[serde(borrow)]
    usage: Usage<'a>,
}

#[derive(Deserialize)]
struct Usage<'a> {
    cpu: &'a str,
    memory: &'a str,
}

impl RowCheck {
    /// Compares a list of PodMetrics.
    pub(super) fn pods(&mut self, body: &[u8]) -> Result<()> {
        let list: List<PodRow<'_>> = serde_json::from_slice(body).doing(|| "decode the pods".into())?;
        for row in list.items {
            let name = row.metadata.name;
            let Some(pod) = Pod::of_name(name.as_bytes()) else {
                self.wrong.push(format!("{name}: not a pod of the fleet"));
                continue;
            };
            if row.containers.len() == CONTAINERS.len() {
                self.pods.insert(pod);
            } else if row.containers.is_empty() || row.containers.len() > CONTAINERS.len() {
                self.wrong.push(format!("{name}: {} containers", row.containers.len()));
            }
            for container in &row.containers {
                let Some(at) = CONTAINERS.iter().position(|known| *known == container.name) else {
                    self.wrong.push(format!("{name}: container {}", container.name));
                    continue;
                };
                let expected = millicores(pod, at);
                if let Some(why) = container.usage.wrong(expected, MAX_MEMORY)? {
                    self.wrong.push(format!("{name}/{}, window {}: {why}", container.name, row.window));
                }
                self.rows += 1;
            }
        }
        Ok(())
    }

    /// Compares a list of NodeMetrics; returns the number of nodes.
    pub(super) fn nodes(&mut self, body: &[u8], population: Population) -> Result<usize> {
        let list: List<NodeRow<'_>> = serde_json::from_slice(body).doing(|| "decode the nodes".into())?;
        for row in &list.items {
            if let Some(why) = row.usage.wrong(population.node_millicores(), MAX_NODE_MEMORY)? {
                self.wrong.push(format!("{}: {why}", row.metadata.name));
            }
            self.rows += 1;
        }
        Ok(list.items.len())
    }
}

impl Usage<'_> {
    #[allow(clippy::cast_precision_loss)]
    fn wrong(&self, millicores: u64, max_memory: u64) -> Result<Option<String>> {
        let (cpu, memory) = (quantity(self.cpu)? * 1000.0, quantity(self.memory)?);
        let expected = millicores as f64;
        if (cpu - expected).abs() > TOLERANCE_MILLICORES.max(expected * TOLERANCE) {
            return Ok(Some(format!("CPU {} instead of {millicores}m", self.cpu)));
        }
        let plausible = memory > 0.0 && memory <= max_memory as f64;
        Ok((!plausible).then(|| format!("memory {}", self.memory)))
    }
}

/// Parses a quantity with one of the suffixes of the Metrics API.
fn quantity(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(Error::Invalid(format!("{text:?} is not a quantity"))),
    };
    let number: f64 = digits.parse().map_err(|_| Error::Invalid(format!("{text:?} is not a quantity")))?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod whose first container is busy and whose second one is idle.
    fn pod() -> Pod {
        (0..1000).map(Pod).find(|pod| millicores(*pod, 0) > 100 && millicores(*pod, 1) == 0).unwrap()
    }

    fn check(cpu: &str, memory: &str) -> RowCheck {
        let idle = json!({"name": CONTAINERS[1], "usage": {"cpu": "40u", "memory": "20Mi"}});
        let busy = json!({"name": CONTAINERS[0], "usage": {"cpu": cpu, "memory": memory}});
        let row = json!({"metadata": {"name": pod().name()}, "window": "15s", "containers": [busy, idle]});
        let mut check = RowCheck::default();
        check.pods(json!({"items": [row]}).to_string().as_bytes()).unwrap();
        check
    }

    #[test]
    fn accepts_true_usage() {
        let cpu = millicores(pod(), 0);
        for cpu in [format!("{cpu}m"), format!("{}n", cpu * 1_010_000)] {
            let check = check(&cpu, "20480Ki");
            assert_eq!((check.wrong, check.rows), (Vec::new(), 2));
            assert!(check.pods.contains(&pod()));
        }
    }

    #[test]
    fn reports_cpu_and_memory_that_differ() {
        let cpu = millicores(pod(), 0);
        for (cpu, memory) in
            [("46628283m".to_owned(), "20Mi"), ("0".into(), "20Mi"), (format!("{}m", cpu + 20), "20Mi")]
        {
            let wrong = check(&cpu, memory).wrong;
            assert!(wrong.len() == 1 && wrong[0].contains(&format!("CPU {cpu} instead of")), "{wrong:?}");
        }
        for memory in ["0", "53Gi"] {
            let wrong = check(&format!("{cpu}m"), memory).wrong;
            assert!(wrong.len() == 1 && wrong[0].ends_with(&format!("memory {memory}")), "{wrong:?}");
        }
    }

    #[test]
    fn compares_nodes() {
        let population = Population { nodes: 10, pods_per_node: 30 };
        let list = |cpu: u64| json!({"items": [{"metadata": {"name": "n"}, "usage": {"cpu": format!("{cpu}m"), "memory": "8Gi"}}]});
        let mut check = RowCheck::default();
        assert_eq!(
            check.nodes(list(population.node_millicores()).to_string().as_bytes(), population).unwrap(),
            1
        );
        assert!(check.wrong.is_empty());
        check.nodes(list(20_000).to_string().as_bytes(), population).unwrap();
        assert_eq!(check.wrong.len(), 1);
    }
}
