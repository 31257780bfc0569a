// Hands what enters by a pod's veth to the far end of the node's uplink, past the uplink itself, as some
// CNIs do. UPLINK is the uplink's interface index.
static long (*redirect_peer)(unsigned int ifindex, unsigned long long flags) = (void *)155;

struct __sk_buff {
	unsigned int len;
	unsigned int pkt_type;
	unsigned int mark;
	unsigned int queue_mapping;
	unsigned int protocol;
};

__attribute__((section("tc"), used)) int redirect(struct __sk_buff *skb)
{
	// ARP stays; neighbour discovery goes astray if it is redirected, so only TCP goes: read the header.
	static long (*load_bytes)(const void *, unsigned int, void *, unsigned int) = (void *)26;
	unsigned char protocol = 0;
	if (skb->protocol == __builtin_bswap16(0x0800))
		load_bytes(skb, 14 + 9, &protocol, 1);
	else if (skb->protocol == __builtin_bswap16(0x86dd))
		load_bytes(skb, 14 + 6, &protocol, 1);
	if (protocol != 6)
		return -1;
	return redirect_peer(UPLINK, 0);
}

char _license[] __attribute__((section("license"), used)) = "GPL";
