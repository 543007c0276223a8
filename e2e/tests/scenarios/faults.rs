//! Each fault is named by its cause and cleared, on clusters of their own: the list is in `e2e::faults`. Whether within
//! 30 s each is in the table, and `cargo run -p e2e --bin faults` holds them to it.
//!
//! Those of kube-apiserver's flags, which restart it, run beside the others on a second cluster. A short run takes
//! some of the list.

use e2e::{Plugin, Result};
use e2e::faults::{self, Bench, FRONT_PROXY, Fault, KUBELETS, PATH, Table};
use e2e::scenario::{Needs, Stand, Suite, failed};

pub fn add(suite: &mut Suite) {
    let flags = suite.group_with("faults-flags", faults::flags(), Some(prepare));
    suite.add(&flags, "of_the_front_proxy_are_named", Needs::Alone, |stand| all(stand, FRONT_PROXY));
    let rest = suite.group_with("faults", faults::flags(), Some(prepare));
    suite.add(&rest, "of_kubelets_are_named", Needs::Alone, |stand| all(stand, KUBELETS));
    suite.add(&rest, "on_the_way_to_the_pods_are_named", Needs::Alone, |stand| all(stand, PATH));
}

fn prepare(stand: &Stand) -> Result<()> {
    faults::prepare(&stand.client, stand.ours()?, &stand.progress)
}

fn all(stand: &Stand, list: &[Fault]) -> Result<()> {
    let bench = Bench {
        client: stand.client.clone(),
        cluster: stand.ours()?,
        plugin: Plugin::build(&stand.progress)?,
        progress: stand.progress.clone(),
    };
    let mut table = Table::default();
    for fault in list.iter().filter(|fault| fault.short || stand.long) {
        table.add(fault, fault.run(&bench));
    }
    stand.progress.say(table.to_string());
    if table.is_right() { Ok(()) } else { Err(failed(table.to_string())) }
}
