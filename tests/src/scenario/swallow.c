// Keeps TCP for one port as programs do that hold packets for themselves: it goes no further, and the kernel counts
// nothing as dropped. PORT is that port.
static long (*load_bytes)(const void *, unsigned int, void *, unsigned int) = (void *)26;

struct __sk_buff {
	unsigned int len;
	unsigned int pkt_type;
	unsigned int mark;
	unsigned int queue_mapping;
	unsigned int protocol;
};

#define TC_ACT_STOLEN 4

__attribute__((section("tc"), used)) int swallow(struct __sk_buff *skb)
{
	unsigned char protocol = 0;
	unsigned short port = 0;
	if (skb->protocol == __builtin_bswap16(0x0800)) {
		load_bytes(skb, 14 + 9, &protocol, 1);
		load_bytes(skb, 14 + 20 + 2, &port, 2);
	} else if (skb->protocol == __builtin_bswap16(0x86dd)) {
		load_bytes(skb, 14 + 6, &protocol, 1);
		load_bytes(skb, 14 + 40 + 2, &port, 2);
	}
	return protocol == 6 && port == __builtin_bswap16(PORT) ? TC_ACT_STOLEN : -1;
}

char _license[] __attribute__((section("license"), used)) = "GPL";
