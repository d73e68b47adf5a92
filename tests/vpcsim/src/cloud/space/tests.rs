use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SCATTERED: Placement = Placement::Scattered;

fn space(cidr: &str, reservations: &[(&str, ReservationKind)]) -> Space {
    let reservations: Vec<_> =
        reservations.iter().map(|(range, kind)| (range.parse().unwrap(), *kind)).collect();
    Space::new(cidr.parse().unwrap(), &reservations)
}

fn eni(number: usize) -> EniId {
    EniId::from(format!("eni-{number}").as_str())
}

#[test]
fn five_addresses_of_each_subnet_are_kept() {
    for (cidr, free) in [("10.0.0.0/24", 251), ("10.0.0.0/28", 11), ("10.0.0.0/16", 65_531)] {
        let mut space = space(cidr, &[]);
        assert_eq!(space.free(), free, "{cidr}");
        let all = space.take_any(free, SCATTERED, &mut Random::new(1), &eni(1)).unwrap();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), free);
        let cidr: Ipv4Network = cidr.parse().unwrap();
        for kept in [0, 1, 2, 3].map(|at| cidr.nth(at).unwrap()).into_iter().chain([cidr.broadcast()]) {
            assert!(!all.contains(&kept) && space.check(kept) == Err(Taken::Reserved), "{kept}");
        }
        assert_eq!(space.take_any(1, SCATTERED, &mut Random::new(1), &eni(1)), None);
    }
}

#[test]
fn blocks_are_aligned_whole_and_never_the_first_or_last() {
    let mut space = space("10.0.0.0/24", &[]);
    assert_eq!(space.free_blocks(), 14);
    let blocks = space.take_blocks(14, SCATTERED, &mut Random::new(3), &eni(1)).unwrap();
    assert!(blocks.iter().all(|block| block.network() == block.ip() && block.prefix() == PREFIX_LEN));
    assert_eq!(space.free(), 251 - 14 * 16);
    assert_eq!(space.take_blocks(1, SCATTERED, &mut Random::new(3), &eni(1)), None);
    assert!(space.take_any(27, SCATTERED, &mut Random::new(3), &eni(1)).is_some(), "singles are left");
}

#[test]
fn one_address_in_each_block_fragments_a_subnet() {
    let mut space = space("10.0.0.0/24", &[]);
    for third in 1..15 {
        space.take(Ipv4Addr::new(10, 0, 0, third * 16 + 5), &eni(1)).unwrap();
    }
    assert_eq!((space.free(), space.free_blocks()), (251 - 14, 0));
    assert_eq!(space.take_blocks(1, SCATTERED, &mut Random::new(1), &eni(2)), None);
    space.give(Ipv4Addr::new(10, 0, 0, 37), &eni(1));
    assert_eq!(
        space.take_blocks(1, SCATTERED, &mut Random::new(1), &eni(2)).unwrap(),
        ["10.0.0.32/28".parse::<Ipv4Network>().unwrap()]
    );
}

#[test]
fn reservations_serve_prefixes_first_and_singles_never() {
    let mut space = space(
        "10.0.0.0/24",
        &[("10.0.0.64/26", ReservationKind::Prefix), ("10.0.0.128/25", ReservationKind::Explicit)],
    );
    let mut random = Random::new(1);
    let blocks = space.take_blocks(5, SCATTERED, &mut random, &eni(1)).unwrap();
    let reserved: Ipv4Network = "10.0.0.64/26".parse().unwrap();
    assert_eq!(blocks.iter().filter(|block| reserved.contains(block.network())).count(), 4, "{blocks:?}");
    assert_eq!(space.take_any(61, SCATTERED, &mut random, &eni(1)), None);
    let singles = space.take_any(44, SCATTERED, &mut random, &eni(1)).unwrap();
    assert!(singles.iter().all(|address| address.octets()[3] < 64), "{singles:?}");
    assert!(
        space.take_blocks(1, SCATTERED, &mut random, &eni(1)).is_none(),
        "explicit ranges serve no choice"
    );
    space.take(Ipv4Addr::new(10, 0, 0, 130), &eni(1)).unwrap();
    space.take_block("10.0.0.144/28".parse().unwrap(), &eni(1)).unwrap();
}

#[test]
fn explicit_wishes_are_refused_with_their_reason() {
    let mut space = space("10.0.0.0/24", &[]);
    space.take_block("10.0.0.16/28".parse().unwrap(), &eni(1)).unwrap();
    space.take(Ipv4Addr::new(10, 0, 0, 40), &eni(2)).unwrap();
    for (address, reason) in [
        ([10, 0, 0, 20], Taken::Held(eni(1))),
        ([10, 0, 0, 40], Taken::Held(eni(2))),
        ([10, 0, 1, 40], Taken::Outside),
        ([10, 0, 0, 255], Taken::Reserved),
    ] {
        assert_eq!(space.take(address.into(), &eni(3)), Err(reason));
    }
    for (block, reason) in [
        ("10.0.0.16/28", Taken::Held(eni(1))),
        ("10.0.0.32/28", Taken::Held(eni(2))),
        ("10.0.0.0/28", Taken::Reserved),
        ("10.0.0.240/28", Taken::Reserved),
        ("10.0.0.50/28", Taken::NotABlock),
        ("10.0.0.64/27", Taken::NotABlock),
        ("10.0.1.64/28", Taken::Outside),
    ] {
        assert_eq!(space.take_block(block.parse().unwrap(), &eni(3)), Err(reason), "{block}");
    }
    assert_eq!(space.free(), 251 - 17, "refusals take nothing");
}

#[test]
fn lowest_placement_is_predictable() {
    let mut space = space("10.0.0.0/24", &[]);
    let got = space.take_any(3, Placement::Lowest, &mut Random::new(9), &eni(1)).unwrap();
    assert_eq!(got, [4, 5, 6].map(|last| Ipv4Addr::new(10, 0, 0, last)));
    let block = space.take_blocks(1, Placement::Lowest, &mut Random::new(9), &eni(1)).unwrap();
    assert_eq!(block, ["10.0.0.16/28".parse::<Ipv4Network>().unwrap()]);
}

#[test]
fn only_the_holder_gives_back() {
    let mut space = space("10.0.0.0/24", &[]);
    let address = Ipv4Addr::new(10, 0, 0, 9);
    space.take(address, &eni(1)).unwrap();
    space.give(address, &eni(2));
    assert_eq!(space.holder(address), Some(&eni(1)));
    space.give(address, &eni(1));
    space.give(address, &eni(1));
    assert_eq!((space.holder(address), space.free()), (None, 251));
}

#[derive(Debug, Clone)]
enum Step {
    Any(usize),
    Blocks(usize),
    Take(u8),
    TakeBlock(u8),
    Give(usize),
}

fn steps() -> impl Strategy<Value = Vec<(Step, usize)>> {
    let step = prop_oneof![
        (0_usize..40).prop_map(Step::Any),
        (0_usize..5).prop_map(Step::Blocks),
        any::<u8>().prop_map(Step::Take),
        (0_u8..16).prop_map(Step::TakeBlock),
        any::<usize>().prop_map(Step::Give),
    ];
    proptest::collection::vec((step, 0_usize..4), 1..120)
}

proptest! {
    /// After any sequence: no address has two holders, the count of free ones is exact, and a refusal changed nothing.
    #[test]
    fn any_sequence_keeps_the_books(steps in steps(), seed: u64) {
        let mut space = space("10.0.0.0/24", &[("10.0.0.192/27", ReservationKind::Prefix)]);
        let mut random = Random::new(seed);
        let mut held: Vec<(Ipv4Network, EniId)> = Vec::new();
        for (step, owner) in steps {
            let owner = eni(owner);
            let single = |address| (network(address, 32), owner.clone());
            match step {
                Step::Any(count) => held.extend(
                    space.take_any(count, SCATTERED, &mut random, &owner).into_iter().flatten().map(single),
                ),
                Step::Blocks(count) => held.extend(
                    space
                        .take_blocks(count, SCATTERED, &mut random, &owner)
                        .into_iter()
                        .flatten()
                        .map(|block| (block, owner.clone())),
                ),
                Step::Take(last) => {
                    let address = Ipv4Addr::new(10, 0, 0, last);
                    if space.take(address, &owner).is_ok() {
                        held.push(single(address));
                    }
                }
                Step::TakeBlock(at) => {
                    let block = network(Ipv4Addr::new(10, 0, 0, at * 16), PREFIX_LEN);
                    if space.take_block(block, &owner).is_ok() {
                        held.push((block, owner.clone()));
                    }
                }
                Step::Give(at) => {
                    if !held.is_empty() {
                        let (net, owner) = held.swap_remove(at % held.len());
                        if net.prefix() == 32 { space.give(net.ip(), &owner) } else { space.give_block(net, &owner) }
                    }
                }
            }
            let mut addresses: Vec<Ipv4Addr> = held.iter().flat_map(|(net, _)| net.iter()).collect();
            prop_assert_eq!(space.free(), 251 - addresses.len());
            for (net, owner) in &held {
                prop_assert!(net.iter().all(|address| space.holder(address) == Some(owner)));
            }
            addresses.sort_unstable();
            prop_assert!(addresses.windows(2).all(|pair| pair[0] != pair[1]), "an address with two holders");
            let kept = [0, 1, 2, 3, 255].map(|last| Ipv4Addr::new(10, 0, 0, last));
            prop_assert!(addresses.iter().all(|address| !kept.contains(address)));
        }
        let mut books: Vec<_> = space.holdings().map(|(net, owner)| (net, owner.clone())).collect();
        books.sort();
        held.sort();
        prop_assert_eq!(books, held);
    }
}
