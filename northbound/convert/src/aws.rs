//! Security groups of AWS.
