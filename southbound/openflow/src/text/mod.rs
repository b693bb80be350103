//! Flows in the syntax of ovs-ofctl (ovs-ofctl(8), ovs-fields(7), ovs-actions(7)).
