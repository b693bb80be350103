//! Tests of the whole: one list of packets for every dataplane, and the programs as an operator runs them.
