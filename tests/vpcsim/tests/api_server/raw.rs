use crate::served::{Served, spec};
#[test]
fn x() { let s = Served::start(&spec()); let a = s.call("DescribeVpcs", &[]); assert_eq!(a.status, 200, "{a:?}"); }
