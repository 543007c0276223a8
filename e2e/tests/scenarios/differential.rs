//! metrics-core compared with metrics-server.

use std::collections::BTreeSet;
use std::process::Command;

use e2e::bench::differential;
use e2e::suite::{Needs, Suite, TestEnv};
use e2e::testbed::binaries;
use e2e::{Result, check, command};

pub(crate) fn add(suite: &mut Suite) {
    let group = suite.group("differential");
    suite.add(&group, "only_intended_differences", Needs::Alone, only_intended_differences);
    suite.add(
        &group,
        "list_of_metrics_server_flags_is_complete",
        Needs::OurCluster,
        the_list_of_flags_is_whole,
    );
}

fn only_intended_differences(env: &TestEnv) -> Result<()> {
    let report = differential::run(env.own_cluster()?, &env.progress)?;
    check!(report.is_as_intended(), "{report}");
    env.progress.say(report.to_string());
    Ok(())
}

/// A test of metrics-core compares its flags with the same list.
fn the_list_of_flags_is_whole(env: &TestEnv) -> Result<()> {
    let help = command::output(Command::new(binaries::metrics_server(&env.progress)?).arg("--help"))?;
    // The line of a flag is `      --name type   description`, optionally with `  -n, ` before it.
    let flags = help.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?.trim_start();
        let line = line.split_once(", ").filter(|(short, _)| short.len() == 2).map_or(line, |(_, long)| long);
        line.strip_prefix("--")?.split_whitespace().next()
    });
    let flags: BTreeSet<_> = flags.collect();
    let list = include_str!("../../../metrics-core/tests/flags/metrics-server-v0.9.0.txt");
    let listed: BTreeSet<_> = list.lines().collect();
    let (missing, surplus): (Vec<_>, Vec<_>) =
        (flags.difference(&listed).collect(), listed.difference(&flags).collect());
    check!(
        missing.is_empty() && surplus.is_empty(),
        "missing in the list: {missing:?}; not a flag: {surplus:?}"
    );
    Ok(())
}
