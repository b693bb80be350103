//! Changes so large that several hands put their claims in order.

use super::*;

/// As many as there are, from the last to the first.
fn backwards(parts: usize, part: &(dyn Fn(usize) + Sync)) {
    (0..parts).rev().for_each(part);
}

#[test]
fn a_claim_is_taken_by_whoever_is_first_whichever_hands_look() {
    let many = u32::try_from(2 * PART + 2).unwrap();
    let one = |number: u32, ip: u32| {
        let [.., high, low] = ip.to_be_bytes();
        let Some(Resource::Workload(workload)) = workload("w1", "prod", 0, &[], None).value else { panic!() };
        let mut workload = Workload { name: name(&format!("m{number:06}")), ..(*workload).clone() };
        let [a, b, c, d] = number.to_be_bytes();
        workload.interfaces[0].mac = Mac([2, 1, a, b, c, d]);
        workload.interfaces[0].ips = vec![format!("10.1.{high}.{low}").parse().unwrap()];
        Change::set(Resource::Workload(Arc::new(workload)))
    };
    // 10.1.0.1 is another's, who stands; the last wants what the first of these has.
    let mut changes: Vec<Change> = (0..many).map(|number| one(number, number + 2)).collect();
    assert_eq!(world().check_by(backwards, &changes), vec![]);
    changes.push(one(many, 2));
    changes.push(one(many + 1, 1));
    let found = world().check_by(backwards, &changes);
    assert_eq!(found, world().check(&changes));
    let found: Vec<String> = found.iter().map(|d| format!("{} {}", d.key, d.message)).collect();
    assert_eq!(
        found,
        [
            format!("Workload/m{many:06} address 10.1.0.2 in network prod is already taken by Workload/m000000"),
            format!("Workload/m{:06} address 10.1.0.1 in network prod is already taken by Workload/w1", many + 1),
        ]
    );
}
