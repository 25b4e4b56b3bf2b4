package network

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sovereign-sql/sov/internal/testkit/netnstest"
)

// TestDown: an interface that is down neither sends nor receives.
func TestDown(t *testing.T) {
	l := newLink(t)
	l.listen(t, 80)
	if err := l.reaches("192.168.100.1", "192.168.100.2:80", true); err != nil {
		t.Fatal(err)
	}
	must(t, netnstest.In(l.guest, func() error {
		if err := Down("enp7s0"); err != nil {
			return err
		}
		link, err := netlink.LinkByName("enp7s0")
		if err == nil && link.Attrs().Flags&net.FlagUp != 0 {
			t.Error("it is up")
		}
		return err
	}))
	if err := l.reaches("192.168.100.1", "192.168.100.2:80", false); err == nil {
		t.Error("the guest is reached")
	}
}
