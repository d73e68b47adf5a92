use super::*;
use crate::cloud::InstanceId;

fn trouble(json: &str) -> Trouble {
    let mut trouble = Trouble::new(1);
    trouble.set(serde_json::from_str(json).unwrap());
    trouble
}

fn fate(trouble: &mut Trouble, action: &str) -> Fate {
    trouble.admit(Millis(0), action, true, "r".to_owned()).fate
}

#[test]
fn without_settings_there_is_no_trouble() {
    let mut trouble = trouble("{}");
    for _ in 0..1000 {
        let admission = trouble.admit(Millis(0), "CreateTags", true, "r".to_owned());
        assert_eq!((admission.before + admission.after, admission.fate), (Duration::ZERO, Fate::Serve));
    }
}

#[test]
fn the_longest_latency_pattern_decides() {
    let mut trouble = trouble(
        r#"{"latency": {"*": {"fixed": {"ms": 1}}, "Describe*": {"fixed": {"ms": 20}}, "DescribeTags": {"fixed": {"ms": 300}}}}"#,
    );
    let mut taken = |action: &str| {
        let admission = trouble.admit(Millis(0), action, false, "r".to_owned());
        (admission.before + admission.after).as_millis()
    };
    assert_eq!([taken("CreateTags"), taken("DescribeVpcs"), taken("DescribeTags")], [1, 20, 300]);
}

#[test]
fn the_same_seed_brings_the_same_trouble() {
    let json = r#"{"seed": 9, "inject": [{"action": "*", "code": "X", "probability": 0.3}],
                   "lost_replies": [{"action": "*", "done": true, "probability": 0.3}]}"#;
    let run = || -> Vec<Fate> {
        let mut trouble = trouble(json);
        (0..200).map(|_| fate(&mut trouble, "CreateTags")).collect()
    };
    let fates = run();
    assert_eq!(fates, run());
    let lost = fates.iter().filter(|fate| **fate == Fate::ServeThenHangUp).count();
    assert!((20..70).contains(&lost), "{lost}: three tenths of what was not refused");
}

#[test]
fn a_black_hole_swallows_before_anything_else() {
    let mut trouble = trouble(r#"{"black_hole": ["*"], "inject": [{"action": "*", "code": "X"}]}"#);
    assert_eq!(fate(&mut trouble, "CreateTags"), Fate::Silence);
}

#[test]
fn policies_follow_the_caller() {
    let trouble = trouble(
        r#"{"iam": {"policy": {"deny": ["CreateTags"]},
                    "callers": {"AKIA1": {"allow": ["ec2:CreateTags"]}, "i-1": {"allow": []}}}}"#,
    );
    let caller = |key: &str, instance: Option<&str>| Caller {
        access_key: key.to_owned(),
        instance: instance.map(InstanceId::from),
    };
    let spec = CloudSpec::default();
    let may = |caller: &Caller, action: &str| trouble.authorize(&spec, caller, action).is_ok();
    assert!(may(&caller("AKIA2", None), "DescribeTags") && !may(&caller("AKIA2", None), "CreateTags"));
    assert!(may(&caller("AKIA1", None), "CreateTags") && !may(&caller("AKIA1", None), "DescribeTags"));
    assert!(!may(&caller("ASIA3", Some("i-1")), "DescribeTags"));
    assert!(may(&caller("ASIA3", Some("i-2")), "DescribeTags"));
    assert!(may(&caller("AKIA2", None), "DescribeSecurityGroups"));
    let refused = trouble.authorize(&spec, &caller("ASIA3", Some("i-2")), "DescribeSecurityGroups");
    let message = refused.unwrap_err().message.to_string();
    assert!(message.contains(":assumed-role/vpcsim-node/i-2 is not authorized"), "{message}");
}

#[test]
fn the_readmes_example_is_valid() {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```json").skip(1).filter_map(|rest| rest.split("```").next());
    let json = blocks.filter(|block| block.contains("describe_lag")).last().unwrap();
    let settings: TroubleSettings = serde_json::from_str(json).unwrap();
    assert_ne!(settings, TroubleSettings::default());
}

#[test]
fn settings_survive_json_and_misspelling_is_refused() {
    let ordinary = TroubleSettings::ordinary();
    let text = serde_json::to_string(&ordinary).unwrap();
    assert_eq!(serde_json::from_str::<TroubleSettings>(&text).unwrap(), ordinary);
    assert!(serde_json::from_str::<TroubleSettings>(r#"{"latnecy": {}}"#).is_err());
}
