//! The order in which scenarios start.

/// The number of groups that run at the same time. A group whose scenarios need the cluster alone uses one thread.
const LANES: usize = 5;

/// Returns the order in which the trials start. A thread that waits for its cluster can run no other scenario, so trials
/// that start about the same time belong to different groups, the longest groups first.
pub(super) fn in_lanes<T>(trials: Vec<(&'static str, T)>) -> Vec<T> {
    let mut groups: Vec<(&str, Vec<T>)> = Vec::new();
    for (name, trial) in trials {
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of_group)) => of_group.push(trial),
            None => groups.push((name, vec![trial])),
        }
    }
    groups.sort_by_key(|(_, of_group)| std::cmp::Reverse(of_group.len()));
    let mut lanes: [Vec<T>; LANES] = std::array::from_fn(|_| Vec::new());
    for (_, of_group) in groups {
        if let Some(shortest) = lanes.iter_mut().min_by_key(|lane| lane.len()) {
            shortest.extend(of_group);
        }
    }
    let mut lanes = lanes.map(Vec::into_iter);
    let longest = lanes.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    (0..longest).flat_map(|_| lanes.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::in_lanes;

    #[test]
    fn neighbors_belong_to_different_groups() {
        let names = ["a", "a", "a", "a", "b", "c", "c", "d", "d", "d", "e", "f"];
        let order = in_lanes(names.into_iter().map(|name| (name, name)).collect());
        assert_eq!(order.concat(), "adcbeadcfada");
    }
}
