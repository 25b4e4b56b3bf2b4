package recipe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPublish(t *testing.T) {
	const services = "services: [{name: web, command: [/bin/web]}, {name: dns, command: [/bin/dns]}]\n"
	for _, tt := range []struct {
		name, text string
		want       []Publish
		says       string // empty if the text is valid
	}{
		{"a number", "network: {publish: [80]}", []Publish{{Port: 80, Protocol: "tcp"}}, ""},
		{"the only service", "services: [{name: web, command: [/bin/web]}]\nnetwork: {publish: [80]}", []Publish{{Port: 80, Service: "web", Protocol: "tcp"}}, ""},
		{"the database", "postgres: {enabled: true}\nnetwork: {publish: [5432, 9]}",
			[]Publish{{Port: 5432, Service: "postgres", Protocol: "tcp"}, {Port: 9, Protocol: "tcp"}}, ""},
		{"both protocols", services + "network: {publish: [{port: 53, service: dns}, {port: 53, service: dns, protocol: udp, host_port: 5353}]}",
			[]Publish{{Port: 53, Service: "dns", Protocol: "tcp"}, {Port: 53, Service: "dns", Protocol: "udp", HostPort: 5353}}, ""},
		{"twice", services + "network: {publish: [80, {port: 80, service: web}]}", nil, "port 80 is listed twice"},
		{"no such service", services + "network: {publish: [{port: 80, service: wbe}]}", nil, `"wbe" is not a service of this recipe`},
		{"no port", "network: {publish: [{service: web}]}", nil, "0 is not a port"},
		{"a word", "network: {publish: [http]}", nil, `expected a whole number, found the string "http"`},
		{"protocol", "network: {publish: [{port: 80, protocol: sctp}]}", nil, `"sctp" must be tcp or udp`},
		{"host port", "network: {publish: [{port: 80, host_port: 70000}]}", nil, "70000 is not a port"},
		{"host port twice", "network: {publish: [{port: 80, host_port: 8080}, {port: 81, host_port: 8080}]}", nil, "port 8080 is listed twice"},
		{"host port that is another's", "network: {forward: [80, 81], publish: [80, {port: 81, host_port: 80}]}", nil, "port 80 is listed twice"},
		{"forward", "network: {publish: [{port: 53, protocol: udp}], forward: [54]}", nil, "port 54 is not one of network.publish"},
	} {
		r, err := Parse("a.yaml", []byte(minimal+tt.text))
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, r.Network.Publish); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}
