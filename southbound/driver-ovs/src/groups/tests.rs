use super::*;

fn set(ports: &[u32]) -> BTreeSet<u32> {
    ports.iter().copied().collect()
}

fn flow(priority: u16, groups: &[u32]) -> Flow {
    let actions = groups.iter().copied().map(Action::Group).collect();
    let key = FlowKey { table: 1, priority, matches: Default::default() };
    Flow { key, cookie: 5, instructions: vec![Instruction::ApplyActions(actions)] }
}

fn described(group: GroupMod) -> GroupDesc {
    GroupDesc { kind: group.kind, id: group.id, buckets: group.buckets }
}

#[test]
fn a_set_of_ports_has_one_group_for_as_long_as_a_flow_uses_it() {
    let mut groups = Groups::default();
    let first = groups.number(set(&[1, 2])).unwrap();
    assert_eq!(first, GROUP_OWNER);
    let second = groups.number(set(&[1, 3])).unwrap();
    assert_eq!(groups.number(set(&[2, 1])), Ok(first));
    assert_eq!(groups.ports(second), Some(&set(&[1, 3])));
    groups.using(&flow(1, &[first, second]));
    groups.using(&flow(2, &[second]));
    let sweep = |groups: &mut Groups| {
        groups.look(Duration::ZERO);
        assert_eq!(groups.sweep(GRACE - Duration::from_millis(1)), vec![]);
        groups.sweep(GRACE)
    };
    assert_eq!(sweep(&mut groups), vec![]);
    assert_eq!(groups.next_deadline(), None);
    groups.using(&flow(1, &[second]));
    groups.look(Duration::from_secs(1));
    assert_eq!(groups.next_deadline(), Some(GRACE + Duration::from_secs(1)));
    // Used again in time, it stays.
    assert_eq!(groups.number(set(&[1, 2])), Ok(first));
    groups.using(&flow(3, &[first]));
    assert_eq!(sweep(&mut groups), vec![]);
    groups.using(&flow(3, &[]));
    assert_eq!(sweep(&mut groups), vec![first]);
    groups.gone(&flow(2, &[]).key, 6, u64::MAX);
    groups.gone(&flow(1, &[]).key, 4, 4);
    assert_eq!(sweep(&mut groups), vec![], "one of the two flows is another one than what was removed");
    groups.gone(&flow(2, &[]).key, 5, u64::MAX);
    assert_eq!(sweep(&mut groups), vec![second]);
    assert_eq!(groups.number(set(&[1, 3])), Ok(first), "a new one, of the first number that is free");
}

#[test]
fn what_a_switch_tells_is_what_was_made_or_is_in_the_way() {
    let mut made = Groups::default();
    let first = made.number(set(&[1, 2])).unwrap();
    let mut told: Vec<GroupDesc> = made.additions(&Groups::default()).map(described).collect();
    assert_eq!(told[0].buckets.iter().map(|bucket| bucket.watch_port).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(Groups::told(&told), made);
    assert_eq!(made.additions(&made).count(), 0);
    told[0].id = 7;
    assert_eq!(Groups::told(&told), Groups::default(), "foreign");
    told[0].id = first;
    let changes: [fn(&mut GroupDesc); 5] = [
        |group| group.kind = GroupType::All,
        |group| _ = group.buckets.pop(),
        |group| group.buckets[0].weight = 2,
        |group| group.buckets[0].watch_port = ANY,
        |group| group.buckets[0].actions.push(Action::PopVlan),
    ];
    for change in changes {
        let mut other = told.clone();
        change(&mut other[0]);
        let mut groups = Groups::told(&other);
        assert_eq!(groups.ports(first), None);
        assert_eq!(groups.number(set(&[1, 2])), Ok(first + 1), "its number is taken");
        groups.look(Duration::ZERO);
        assert_eq!(groups.sweep(GRACE), vec![first, first + 1]);
    }
}

#[test]
fn numbers_of_groups_end() {
    let mut groups = Groups::default();
    groups.ports.insert(LAST, None);
    assert_eq!(groups.number(set(&[1, 2])), Ok(GROUP_OWNER));
    groups.ports.extend((GROUP_OWNER..LAST).step_by(1).map(|number| (number, None)).take(1 << 16));
    assert_eq!(groups.number(set(&[1, 3])), Ok(GROUP_OWNER + (1 << 16)));
}
