"""Drives every action of the simulated EC2 with boto3 and checks the answers. Usage: drive.py ENDPOINT ACTION…"""

import sys
import time
from ipaddress import ip_address, ip_network

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import model

A, B = "subnet-0aaaaaaaaaaaaaaaa", "subnet-0bbbbbbbbbbbbbbbb"
TINY, KEPT, SIX = "subnet-0cccccccccccccccc", "subnet-0dddddddddddddddd", "subnet-0eeeeeeeeeeeeeeee"
GROUP = "sg-0aaaaaaaaaaaaaaaa"
NODE, OLD, BIG = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb", "i-0cccccccccccccccc"

ec2 = boto3.client(
    "ec2",
    endpoint_url=sys.argv[1],
    region_name="us-west-2",
    aws_access_key_id="AKIAOUTSIDE",
    aws_secret_access_key="x",
    # Values out of range are for the server to refuse.
    config=Config(retries={"max_attempts": 1, "mode": "standard"}, parameter_validation=False),
)
CHECKS = []
COMPLAINTS = []
model.watch(ec2, COMPLAINTS)


def check(function):
    CHECKS.append(function)
    return function


def refused(code, call, *arguments, **parameters):
    try:
        call(*arguments, **parameters)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got == code, f"wanted {code}, got {got}: {error}"
        assert error.response["Error"]["Message"], "a refusal has a message"
        assert error.response["ResponseMetadata"]["RequestId"], "a refusal has a request id"
        return error
    raise AssertionError(f"wanted {code}, got success: {parameters}")


def create(subnet=A, **parameters):
    return ec2.create_network_interface(SubnetId=subnet, **parameters)["NetworkInterface"]


def eni(eni_id):
    return ec2.describe_network_interfaces(NetworkInterfaceIds=[eni_id])["NetworkInterfaces"][0]


def until(condition, what):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


def detach_and_delete(eni_id):
    ec2.detach_network_interface(AttachmentId=eni(eni_id)["Attachment"]["AttachmentId"])
    until(lambda: eni(eni_id)["Status"] == "available", "detached")
    ec2.delete_network_interface(NetworkInterfaceId=eni_id)


def free(subnet):
    return ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]


@check
def networks_are_described():
    vpc = ec2.describe_vpcs()["Vpcs"][0]
    assert vpc["CidrBlock"] == "10.0.0.0/16" and vpc["State"] == "available"
    assert vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"] == "2600:1f14::/56"
    subnets = {s["SubnetId"]: s for s in ec2.describe_subnets(
        Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}, {"Name": "availability-zone", "Values": ["us-west-2?"]}]
    )["Subnets"]}
    assert set(subnets) == {A, B, TINY, KEPT, SIX}
    assert subnets[B]["AvailableIpAddressCount"] == 251 and subnets[TINY]["AvailableIpAddressCount"] == 11
    assert subnets[SIX]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"] == "2600:1f14:0:1::/64"
    tagged = ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/cni", "Values": ["1"]}])["Subnets"]
    assert [s["SubnetId"] for s in tagged] == [B]
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    assert groups[0]["IpPermissions"][0]["UserIdGroupPairs"][0]["GroupId"] == groups[0]["GroupId"]
    assert ec2.describe_security_groups(GroupIds=[GROUP])["SecurityGroups"][0]["GroupName"] == "pods"
    refused("InvalidSubnetID.NotFound", ec2.describe_subnets, SubnetIds=["subnet-0123456789abcdef0"])
    refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupIds=["sg-0123456789abcdef0"])
    refused("InvalidVpcID.NotFound", ec2.describe_vpcs, VpcIds=["vpc-0123456789abcdef0"])
    refused("InvalidParameterValue", ec2.describe_subnets, Filters=[{"Name": "colour", "Values": ["red"]}])


@check
def instances_are_described():
    instance = ec2.describe_instances(InstanceIds=[NODE])["Reservations"][0]["Instances"][0]
    assert instance["State"]["Name"] == "running" and instance["InstanceType"] == "m5.large"
    assert instance["LaunchTime"].year > 2000
    first = instance["NetworkInterfaces"][0]
    assert first["Attachment"]["DeviceIndex"] == 0 and first["Attachment"]["NetworkCardIndex"] == 0
    assert first["PrivateIpAddress"] == instance["PrivateIpAddress"]
    named = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["i-0aaa*"]}])["Reservations"]
    assert len(named) == 1 and instance["Tags"] == [{"Key": "Name", "Value": NODE}]
    refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])
    refused("InvalidInstanceID.Malformed", ec2.describe_instances, InstanceIds=["node-1"])


@check
def instance_types_are_described():
    network = ec2.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"][0]["NetworkInfo"]
    assert network["MaximumNetworkInterfaces"] == 3 and network["Ipv4AddressesPerInterface"] == 10
    pages = ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 100})
    types = [t["InstanceType"] for page in pages for t in page["InstanceTypes"]]
    assert len(types) == len(set(types)) > 1300
    p5 = ec2.describe_instance_types(Filters=[{"Name": "instance-type", "Values": ["p5.48*"]}])["InstanceTypes"]
    assert len(p5[0]["NetworkInfo"]["NetworkCards"]) == 32 and p5[0]["Hypervisor"] == "nitro"
    refused("InvalidInstanceType", ec2.describe_instance_types, InstanceTypes=["m5.gigantic"])
    refused("InvalidParameterValue", ec2.describe_instance_types, MaxResults=101)


@check
def an_interface_lives_and_dies():
    before = free(A)
    tags = [{"Key": "node.k8s.amazonaws.com/instance_id", "Value": NODE}, {"Key": "empty", "Value": ""}]
    made = create(
        Description="aws-K8S-<1> & more",
        Groups=[GROUP],
        SecondaryPrivateIpAddressCount=3,
        TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}],
    )
    eni_id = made["NetworkInterfaceId"]
    assert made["Status"] == "pending" and made["InterfaceType"] == "interface"
    assert made["Description"] == "aws-K8S-<1> & more" and made["Groups"][0]["GroupName"] == "pods"
    addresses = [a["PrivateIpAddress"] for a in made["PrivateIpAddresses"]]
    assert len(set(addresses)) == 4 and made["PrivateIpAddresses"][0]["Primary"]
    assert all(ip_address(a) in ip_network("10.0.1.0/24") for a in addresses)
    assert free(A) == before - 4
    ec2.get_waiter("network_interface_available").wait(
        NetworkInterfaceIds=[eni_id], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    assert sorted(t["Key"] for t in eni(eni_id)["TagSet"]) == ["empty", "node.k8s.amazonaws.com/instance_id"]

    attached = ec2.attach_network_interface(NetworkInterfaceId=eni_id, InstanceId=NODE, DeviceIndex=1)
    assert attached["NetworkCardIndex"] == 0
    until(lambda: eni(eni_id)["Attachment"]["Status"] == "attached", "attached")
    attachment = eni(eni_id)["Attachment"]
    assert attachment["AttachmentId"] == attached["AttachmentId"] and not attachment["DeleteOnTermination"]
    assert eni(eni_id)["Status"] == "in-use"
    found = ec2.describe_network_interfaces(Filters=[
        {"Name": "attachment.instance-id", "Values": [NODE]},
        {"Name": "tag-key", "Values": ["node.k8s.amazonaws.com/*"]},
        {"Name": "description", "Values": ["aws-K8S-*"]},
        {"Name": "status", "Values": ["in-use", "available"]},
        {"Name": "subnet-id", "Values": [A]},
        {"Name": "tag:empty", "Values": [""]},
    ])["NetworkInterfaces"]
    assert [e["NetworkInterfaceId"] for e in found] == [eni_id]
    by_address = ec2.describe_network_interfaces(
        Filters=[{"Name": "addresses.private-ip-address", "Values": [addresses[3]]}])["NetworkInterfaces"]
    assert [e["NetworkInterfaceId"] for e in by_address] == [eni_id]

    refused("InvalidParameterValue", ec2.delete_network_interface, NetworkInterfaceId=eni_id)
    refused("InvalidNetworkInterface.InUse", ec2.attach_network_interface,
            NetworkInterfaceId=eni_id, InstanceId=NODE, DeviceIndex=2)
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni_id,
        Attachment={"AttachmentId": attached["AttachmentId"], "DeleteOnTermination": True})
    assert eni(eni_id)["Attachment"]["DeleteOnTermination"]
    detach_and_delete(eni_id)
    refused("InvalidNetworkInterfaceID.NotFound", ec2.describe_network_interfaces, NetworkInterfaceIds=[eni_id])
    refused("InvalidNetworkInterfaceID.NotFound", ec2.delete_network_interface, NetworkInterfaceId=eni_id)
    refused("InvalidAttachmentID.NotFound", ec2.detach_network_interface, AttachmentId=attached["AttachmentId"])
    assert free(A) == before


@check
def attributes_are_modified_one_at_a_time():
    eni_id = create()["NetworkInterfaceId"]
    modify = ec2.modify_network_interface_attribute
    modify(NetworkInterfaceId=eni_id, Description={"Value": "new"})
    modify(NetworkInterfaceId=eni_id, SourceDestCheck={"Value": False})
    modify(NetworkInterfaceId=eni_id, Groups=[GROUP])
    modify(NetworkInterfaceId=eni_id, ConnectionTrackingSpecification={"TcpEstablishedTimeout": 350})
    now = eni(eni_id)
    assert now["Description"] == "new" and not now["SourceDestCheck"] and now["Groups"][0]["GroupId"] == GROUP
    assert now["ConnectionTrackingConfiguration"] == {"TcpEstablishedTimeout": 350}
    refused("InvalidParameterCombination", modify,
            NetworkInterfaceId=eni_id, Description={"Value": "x"}, SourceDestCheck={"Value": True})
    refused("InvalidAttachmentID.NotFound", modify, NetworkInterfaceId=eni_id,
            Attachment={"AttachmentId": "eni-attach-0123456789abcdef0", "DeleteOnTermination": True})
    refused("InvalidSecurityGroupID.NotFound", modify, NetworkInterfaceId=eni_id, Groups=["sg-0123456789abcdef0"])
    ec2.delete_network_interface(NetworkInterfaceId=eni_id)


@check
def client_tokens_make_creation_idempotent():
    one = ec2.create_network_interface(SubnetId=A, ClientToken="t-1", SecondaryPrivateIpAddressCount=1)
    two = ec2.create_network_interface(SubnetId=A, ClientToken="t-1", SecondaryPrivateIpAddressCount=1)
    assert one["ClientToken"] == "t-1"
    assert one["NetworkInterface"]["NetworkInterfaceId"] == two["NetworkInterface"]["NetworkInterfaceId"]
    refused("IdempotentParameterMismatch", ec2.create_network_interface, SubnetId=A, ClientToken="t-1")
    ec2.delete_network_interface(NetworkInterfaceId=one["NetworkInterface"]["NetworkInterfaceId"])


@check
def addresses_are_assigned_and_unassigned():
    before = free(A)
    eni_id = create(SecondaryPrivateIpAddressCount=2)["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=eni_id, InstanceId=NODE, DeviceIndex=1)
    got = ec2.assign_private_ip_addresses(NetworkInterfaceId=eni_id, SecondaryPrivateIpAddressCount=3)
    new = [a["PrivateIpAddress"] for a in got["AssignedPrivateIpAddresses"]]
    assert len(new) == 3 and "AssignedIpv4Prefixes" in got
    have = [a["PrivateIpAddress"] for a in eni(eni_id)["PrivateIpAddresses"]]
    assert have[3:] == new and [a["Primary"] for a in eni(eni_id)["PrivateIpAddresses"]].count(True) == 1
    refused("PrivateIpAddressLimitExceeded", ec2.assign_private_ip_addresses,
            NetworkInterfaceId=eni_id, SecondaryPrivateIpAddressCount=5)
    prefix = ec2.assign_private_ip_addresses(NetworkInterfaceId=eni_id, Ipv4PrefixCount=1)["AssignedIpv4Prefixes"]
    net = ip_network(prefix[0]["Ipv4Prefix"])
    assert net.prefixlen == 28 and net.subnet_of(ip_network("10.0.1.0/24"))
    assert free(A) == before - 6 - 16
    explicit = str(ip_network("10.0.1.0/24")[250])
    ec2.assign_private_ip_addresses(NetworkInterfaceId=eni_id, PrivateIpAddresses=[explicit])
    refused("InvalidParameterCombination", ec2.assign_private_ip_addresses, NetworkInterfaceId=eni_id,
            PrivateIpAddresses=["10.0.1.249"], SecondaryPrivateIpAddressCount=1)
    refused("InvalidParameterValue", ec2.assign_private_ip_addresses,
            NetworkInterfaceId=eni_id, PrivateIpAddresses=["10.0.2.9"])
    refused("InvalidParameterValue", ec2.assign_private_ip_addresses,
            NetworkInterfaceId=eni_id, PrivateIpAddresses=["10.0.1.1"])
    other = create()["NetworkInterfaceId"]
    refused("InvalidIPAddress.InUse", ec2.assign_private_ip_addresses,
            NetworkInterfaceId=other, PrivateIpAddresses=[explicit])
    ec2.assign_private_ip_addresses(NetworkInterfaceId=other, PrivateIpAddresses=[explicit], AllowReassignment=True)
    assert explicit not in [a["PrivateIpAddress"] for a in eni(eni_id)["PrivateIpAddresses"]]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=eni_id, PrivateIpAddresses=new)
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=eni_id, Ipv4Prefixes=[str(net)])
    refused("InvalidParameterValue", ec2.unassign_private_ip_addresses,
            NetworkInterfaceId=eni_id, PrivateIpAddresses=new)
    refused("InvalidParameterValue", ec2.unassign_private_ip_addresses,
            NetworkInterfaceId=eni_id, PrivateIpAddresses=[have[0]])
    refused("MissingParameter", ec2.assign_private_ip_addresses, NetworkInterfaceId=eni_id)
    ec2.delete_network_interface(NetworkInterfaceId=other)
    detach_and_delete(eni_id)
    assert free(A) == before


@check
def a_small_subnet_exhausts_and_has_no_prefix():
    refused("InsufficientCidrBlocks", create, TINY, Ipv4PrefixCount=1)
    refused("InsufficientFreeAddressesInSubnet", create, TINY, SecondaryPrivateIpAddressCount=11)
    assert free(TINY) == 11, "a refusal takes nothing"
    made = create(TINY, SecondaryPrivateIpAddressCount=10)
    addresses = {int(ip_address(a["PrivateIpAddress"])) & 15 for a in made["PrivateIpAddresses"]}
    assert addresses == set(range(4, 15)), "exactly the eleven that AWS does not keep"
    assert free(TINY) == 0
    refused("InsufficientFreeAddressesInSubnet", create, TINY)
    ec2.delete_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"])


@check
def reservations_and_fragments_are_honoured():
    kept, explicit = ip_network("10.0.4.64/26"), ip_network("10.0.4.128/26")
    prefixed = create(KEPT, Ipv4PrefixCount=4)
    assert all(ip_network(p["Ipv4Prefix"]).subnet_of(kept) for p in prefixed["Ipv4Prefixes"])
    scattered = create(KEPT, SecondaryPrivateIpAddressCount=40)
    for a in scattered["PrivateIpAddresses"]:
        assert ip_address(a["PrivateIpAddress"]) not in kept and ip_address(a["PrivateIpAddress"]) not in explicit
    one = create(KEPT, PrivateIpAddress="10.0.4.130", Ipv4Prefixes=[{"Ipv4Prefix": "10.0.4.144/28"}])
    assert one["PrivateIpAddress"] == "10.0.4.130" and one["Ipv4Prefixes"] == [{"Ipv4Prefix": "10.0.4.144/28"}]
    refused("InvalidIPAddress.InUse", create, KEPT, PrivateIpAddress="10.0.4.150")
    refused("InvalidParameterValue", create, KEPT, Ipv4Prefixes=[{"Ipv4Prefix": "10.0.4.168/29"}])
    refused("InsufficientCidrBlocks", create, KEPT, Ipv4PrefixCount=6)
    assert free(KEPT) > 16 * 6, "fragmented, not exhausted"
    for made in (prefixed, scattered, one):
        ec2.delete_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"])


@check
def instance_types_limit_attachments():
    ids = [create()["NetworkInterfaceId"] for _ in range(3)]
    attach = ec2.attach_network_interface
    attach(NetworkInterfaceId=ids[0], InstanceId=NODE, DeviceIndex=1)
    refused("InvalidParameterValue", attach, NetworkInterfaceId=ids[1], InstanceId=NODE, DeviceIndex=1)
    refused("InvalidParameterValue", attach, NetworkInterfaceId=ids[1], InstanceId=NODE, DeviceIndex=1,
            NetworkCardIndex=1)
    attach(NetworkInterfaceId=ids[1], InstanceId=NODE, DeviceIndex=2)
    refused("AttachmentLimitExceeded", attach, NetworkInterfaceId=ids[2], InstanceId=NODE, DeviceIndex=3)
    prefixed = create(Ipv4PrefixCount=1)["NetworkInterfaceId"]
    refused("UnsupportedOperation", attach, NetworkInterfaceId=prefixed, InstanceId=OLD, DeviceIndex=1)
    wide = create(SecondaryPrivateIpAddressCount=3)["NetworkInterfaceId"]
    refused("PrivateIpAddressLimitExceeded", attach, NetworkInterfaceId=wide, InstanceId=OLD, DeviceIndex=1)
    far = create(B)["NetworkInterfaceId"]
    refused("InvalidParameterCombination", attach, NetworkInterfaceId=far, InstanceId=NODE, DeviceIndex=4)
    card = attach(NetworkInterfaceId=ids[2], InstanceId=BIG, DeviceIndex=1, NetworkCardIndex=7)
    assert card["NetworkCardIndex"] == 7
    primary = ec2.describe_instances(InstanceIds=[NODE])["Reservations"][0]["Instances"][0]["NetworkInterfaces"][0]
    refused("OperationNotPermitted", ec2.detach_network_interface,
            AttachmentId=primary["Attachment"]["AttachmentId"])
    for eni_id in ids:
        until(lambda: eni(eni_id)["Attachment"]["Status"] == "attached", "attached")
        detach_and_delete(eni_id)
    for eni_id in (prefixed, wide, far):
        ec2.delete_network_interface(NetworkInterfaceId=eni_id)


@check
def ipv6_is_assigned_and_unassigned():
    made = create(SIX, Ipv6AddressCount=2, Ipv6PrefixCount=1, EnablePrimaryIpv6=True)
    eni_id, net = made["NetworkInterfaceId"], ip_network("2600:1f14:0:1::/64")
    assert all(ip_address(a["Ipv6Address"]) in net for a in made["Ipv6Addresses"]) and len(made["Ipv6Prefixes"]) == 1
    assert made["Ipv6Addresses"][0]["IsPrimaryIpv6"] and made["Ipv6Address"] == made["Ipv6Addresses"][0]["Ipv6Address"]
    more = ec2.assign_ipv6_addresses(NetworkInterfaceId=eni_id, Ipv6AddressCount=1, Ipv6PrefixCount=1)
    assert len(more["AssignedIpv6Addresses"]) == 1 and ip_network(more["AssignedIpv6Prefixes"][0]).prefixlen == 80
    gone = ec2.unassign_ipv6_addresses(
        NetworkInterfaceId=eni_id,
        Ipv6Addresses=more["AssignedIpv6Addresses"], Ipv6Prefixes=more["AssignedIpv6Prefixes"])
    assert gone["UnassignedIpv6Addresses"] == more["AssignedIpv6Addresses"]
    found = ec2.describe_network_interfaces(Filters=[
        {"Name": "ipv6-addresses.ipv6-address", "Values": [made["Ipv6Addresses"][0]["Ipv6Address"]]}])
    assert found["NetworkInterfaces"][0]["NetworkInterfaceId"] == eni_id
    refused("InvalidParameterValue", create, A, Ipv6AddressCount=1)
    ec2.delete_network_interface(NetworkInterfaceId=eni_id)


@check
def tags_are_created_described_and_deleted():
    eni_id = create()["NetworkInterfaceId"]
    ec2.create_tags(Resources=[eni_id, NODE], Tags=[{"Key": "team", "Value": "net"}, {"Key": "x", "Value": "y"}])
    described = ec2.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]
    assert {(t["ResourceId"], t["ResourceType"]) for t in described} == {
        (eni_id, "network-interface"), (NODE, "instance")}
    ec2.delete_tags(Resources=[eni_id, NODE], Tags=[{"Key": "team"}, {"Key": "x", "Value": "other"}])
    assert eni(eni_id)["TagSet"] == [{"Key": "x", "Value": "y"}]
    ec2.delete_tags(Resources=[eni_id, NODE], Tags=[{"Key": "x"}])
    refused("InvalidNetworkInterfaceID.NotFound", ec2.create_tags,
            Resources=["eni-0123456789abcdef0"], Tags=[{"Key": "a", "Value": "b"}])
    refused("InvalidID", ec2.create_tags, Resources=["thing-1"], Tags=[{"Key": "a", "Value": "b"}])
    refused("InvalidParameterValue", ec2.create_tags, Resources=[eni_id], Tags=[{"Key": "aws:x", "Value": "b"}])
    refused("TagLimitExceeded", ec2.create_tags,
            Resources=[eni_id], Tags=[{"Key": f"k{n}", "Value": ""} for n in range(51)])
    pages = ec2.get_paginator("describe_tags").paginate(PaginationConfig={"PageSize": 5})
    assert sum(len(page["Tags"]) for page in pages) == len(ec2.describe_tags()["Tags"])
    ec2.delete_network_interface(NetworkInterfaceId=eni_id)


@check
def interfaces_are_paged():
    ids = {create(B, Description="paged")["NetworkInterfaceId"] for _ in range(23)}
    pages = list(ec2.get_paginator("describe_network_interfaces").paginate(
        Filters=[{"Name": "description", "Values": ["paged"]}], PaginationConfig={"PageSize": 5}))
    assert [len(page["NetworkInterfaces"]) for page in pages] == [5, 5, 5, 5, 3]
    assert {e["NetworkInterfaceId"] for page in pages for e in page["NetworkInterfaces"]} == ids
    describe = ec2.describe_network_interfaces
    refused("InvalidParameterValue", describe, MaxResults=4)
    refused("InvalidParameterValue", describe, MaxResults=1001)
    refused("InvalidNextToken", describe, NextToken="nonsense")
    refused("InvalidParameterCombination", describe, NetworkInterfaceIds=[next(iter(ids))], MaxResults=5)
    for eni_id in ids:
        ec2.delete_network_interface(NetworkInterfaceId=eni_id)


@check
def branches_hang_on_trunks():
    trunk = create(InterfaceType="trunk")
    branch = create(InterfaceType="branch", Groups=[GROUP])
    assert trunk["InterfaceType"] == "trunk" and branch["InterfaceType"] == "branch"
    trunk, branch = trunk["NetworkInterfaceId"], branch["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=trunk, InstanceId=NODE, DeviceIndex=1)
    tie = ec2.associate_trunk_interface(BranchInterfaceId=branch, TrunkInterfaceId=trunk, VlanId=7)
    tie = tie["InterfaceAssociation"]
    assert tie["InterfaceProtocol"] == "VLAN" and tie["VlanId"] == 7
    described = ec2.describe_trunk_interface_associations()["InterfaceAssociations"]
    assert [d["AssociationId"] for d in described] == [tie["AssociationId"]]
    refused("InvalidNetworkInterface.InUse", ec2.associate_trunk_interface,
            BranchInterfaceId=branch, TrunkInterfaceId=trunk, VlanId=8)
    refused("InvalidParameterValue", ec2.delete_network_interface, NetworkInterfaceId=branch)
    permission = ec2.create_network_interface_permission(
        NetworkInterfaceId=branch, AwsAccountId="210987654321", Permission="INSTANCE-ATTACH")["InterfacePermission"]
    assert permission["PermissionState"]["State"] == "granted"
    gone = ec2.disassociate_trunk_interface(AssociationId=tie["AssociationId"])
    assert gone["Return"]
    ec2.delete_network_interface(NetworkInterfaceId=branch)
    until(lambda: eni(trunk)["Attachment"]["Status"] == "attached", "attached")
    detach_and_delete(trunk)


@check
def bad_requests_are_refused_as_ec2_does():
    refused("InvalidSubnetID.NotFound", create, "subnet-0123456789abcdef0")
    refused("InvalidSecurityGroupID.NotFound", create, Groups=["sg-0123456789abcdef0"])
    refused("InvalidParameterValue", create, InterfaceType="quantum")
    refused("InvalidParameterCombination", create, Ipv4PrefixCount=1, SecondaryPrivateIpAddressCount=1)
    refused("InvalidNetworkInterfaceId.Malformed", ec2.delete_network_interface, NetworkInterfaceId="x")
    refused("InvalidInstanceID.NotFound", ec2.attach_network_interface,
            NetworkInterfaceId=create(Description="left")["NetworkInterfaceId"],
            InstanceId="i-0123456789abcdef0", DeviceIndex=1)
    refused("InvalidAction", ec2.run_instances, ImageId="ami-1", MinCount=1, MaxCount=1)
    refused("UnsupportedOperation", ec2.create_network_interface, SubnetId=A, Operator={"Principal": "x"})
    dry = refused("DryRunOperation", ec2.create_network_interface, SubnetId=A, DryRun=True)
    assert dry.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    for left in ec2.describe_network_interfaces(
            Filters=[{"Name": "description", "Values": ["left"]}])["NetworkInterfaces"]:
        ec2.delete_network_interface(NetworkInterfaceId=left["NetworkInterfaceId"])


@check
def every_parameter_of_every_action_is_known():
    for action in sys.argv[2:]:
        unknown = model.unknown_parameters(sys.argv[1], ec2.meta.service_model.operation_model(action))
        assert not unknown, f"{action}: {unknown}"


@check
def every_element_of_every_answer_is_known():
    assert not COMPLAINTS, "\n".join(sorted(set(COMPLAINTS)))


failed = 0
for function in CHECKS:
    try:
        function()
        print("ok  ", function.__name__)
    except Exception as error:  # every check is to be heard
        failed += 1
        import traceback
        print("FAIL", function.__name__, type(error).__name__, error)
        traceback.print_exc()
print(len(CHECKS) - failed, "of", len(CHECKS), "checks passed")
sys.exit(1 if failed else 0)
