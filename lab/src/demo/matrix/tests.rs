#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::*;
use crate::demo::shop;

fn cell(verdict: Verdict, observed: Observed) -> Cell {
    let expected = Expected { verdict, rule: "some/rule".into() };
    Cell { from: 0, to: 1, service: Service::Tcp(443), family: Family::V4, expected, observed }
}

#[test]
fn each_verdict_has_its_own_answers() {
    use Answer::{Passed, Refused, Silence, Unreachable};
    let fits = [
        (Verdict::Allow, vec![Passed]),
        (Verdict::Deny, vec![Silence, Unreachable]),
        (Verdict::Reject, vec![Refused, Unreachable]),
    ];
    for (verdict, good) in fits {
        for answer in [Passed, Refused, Unreachable, Silence] {
            assert_eq!(cell(verdict, Observed::Real(answer)).agrees(), good.contains(&answer), "{verdict:?} {answer}");
        }
    }
}

#[test]
fn a_trace_agrees_with_the_same_verdict_only() {
    assert!(cell(Verdict::Deny, Observed::Traced(Verdict::Deny)).agrees());
    assert!(!cell(Verdict::Deny, Observed::Traced(Verdict::Reject)).agrees());
}

#[test]
fn the_grid_shows_what_is_wrong() {
    let hosts = shop::hosts().unwrap();
    let right = cell(Verdict::Allow, Observed::Real(Answer::Passed));
    let wrong = Cell { service: Service::Udp(53), ..cell(Verdict::Deny, Observed::Real(Answer::Passed)) };
    let matrix = Matrix { hosts, cells: vec![right, wrong], second_looks: 0 };
    assert_eq!((matrix.count(), matrix.agreeing()), (2, 1));
    let grid = matrix.grid();
    let row = grid.lines().find(|line| line.trim_start().starts_with("lb ")).unwrap();
    assert!(row.contains("+..!."), "{row}");
    assert_eq!(matrix.disagreements().len(), 1);
    assert!(matrix.disagreements()[0].contains("53/udp"), "{:?}", matrix.disagreements());
}

#[test]
fn one_family_wrong_is_wrong() {
    let right = cell(Verdict::Allow, Observed::Real(Answer::Passed));
    let wrong = Cell { family: Family::V6, ..cell(Verdict::Allow, Observed::Real(Answer::Silence)) };
    let matrix = Matrix { hosts: shop::hosts().unwrap(), cells: vec![right, wrong], second_looks: 0 };
    assert_eq!(matrix.mark(0, 1, Service::Tcp(443)), '!');
}

#[test]
fn families_that_differ_by_policy_are_shown_apart() {
    let four = cell(Verdict::Allow, Observed::Real(Answer::Passed));
    let six = Cell { family: Family::V6, ..cell(Verdict::Deny, Observed::Real(Answer::Silence)) };
    let matrix = Matrix { hosts: shop::hosts().unwrap(), cells: vec![four, six], second_looks: 0 };
    assert_eq!(matrix.mark(0, 1, Service::Tcp(443)), '~');
}
