//! The passing program on the far end of a veth pair.

use crate::support::Namespace;

#[test]
fn passing_program_is_attached_replaced_and_taken_away() {
    let namespace = Namespace::new("pass");
    namespace.run("ip link add p0 type veth peer name p1");

    namespace.enter(|| {
        isocast_dataplane::pass::attach("p1").expect("first");
        isocast_dataplane::pass::attach("p1").expect("again");
    });
    assert!(namespace.run("ip -details link show p1").contains("prog/xdp"));

    namespace.enter(|| isocast_dataplane::pass::detach("p1").expect("detach"));
    assert!(!namespace.run("ip -details link show p1").contains("prog/xdp"));
}

#[test]
fn missing_interface_is_an_error() {
    let namespace = Namespace::new("pass-missing");

    let result = namespace.enter(|| isocast_dataplane::pass::attach("nowhere0"));

    assert!(result.is_err());
}
