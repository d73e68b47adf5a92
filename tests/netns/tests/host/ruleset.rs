//! The ruleset of an instance as large as they come.

use super::SHORT;
use podwire_hostnet::{EniConfig, EniSlot, Part};
use podwire_netns::node::{net, ready_node};
use podwire_netns::on_stage;
use std::time::{Duration, Instant};

/// The largest ruleset is one transaction, of which each message is acknowledged: none gets lost.
#[test]
fn ruleset_of_a_hundred_enis_is_put_back_at_once() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let (mut made, mut enis) = (String::new(), Vec::new());
        for mark in 3..=100_u8 {
            made += &format!(
                "link add many{mark} address 02:00:00:00:01:{mark:02x} type veth peer name peer{mark}\n"
            );
            enis.push(EniConfig {
                slot: EniSlot::of_mark(mark.into()).expect("a slot"),
                mac: [2, 0, 0, 0, 1, mark],
                primary: [10, 0, mark, 12].into(),
                subnet: net(&format!("10.0.{mark}.0/24")),
                mtu: 1500,
                sources: vec![net(&format!("10.0.{mark}.101/32"))],
            });
        }
        stage.run(&format!("ip -batch - <<'E'\n{made}E"));
        for eni in &enis {
            node.apply_eni(eni, SHORT).expect("ENI");
        }
        // The order of chains tells when they were made.
        let ruleset = || stage.run("nft list ruleset | sort");
        let before = ruleset();
        stage.run("nft delete table ip podwire");
        let began = Instant::now();
        let repair = node.repair(&Part::ALL.into(), &mut |_| Vec::new());
        assert!(repair.failures.is_empty(), "{:?}", repair.failures);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(ruleset(), before);
    });
}
