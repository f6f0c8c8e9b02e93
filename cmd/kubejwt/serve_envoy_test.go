package main

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kubejwt/kubejwt/kubejwttest"
)

// The configurations of Envoy are what Envoy's own types take, and what is in
// them names a policy, lets nobody pass without kubejwt, discards what clients
// send under its names, and keeps the token from the service.
func TestExamplesEnvoy(t *testing.T) {
	for _, file := range []string{"envoy.yaml", "envoy-http.yaml"} {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile(root + "/examples/proxies/" + file)
			if err != nil {
				t.Fatal(err)
			}
			bootstrap, err := readBootstrap(data)
			if err != nil {
				t.Fatal(err)
			}
			config := find[*authzv3.ExtAuthz](t, bootstrap)
			if onError := config.GetStatusOnError(); config.GetFailureModeAllow() || onError.GetCode() != 503 {
				t.Errorf("failure_mode_allow %v, status_on_error %v: want 503", config.GetFailureModeAllow(), onError)
			}
			manager := find[*hcmv3.HttpConnectionManager](t, bootstrap)
			for _, host := range manager.GetRouteConfig().GetVirtualHosts() {
				if removed := host.GetRequestHeadersToRemove(); len(removed) != 1 || removed[0] != "authorization" {
					t.Errorf("removed on the way to the service: %q", removed)
				}
			}
			var discarded []string
			for _, mutation := range find[*mutationv3.HeaderMutation](t, bootstrap).GetMutations() {
				discarded = append(discarded, http.CanonicalHeaderKey(mutation.GetRemove()))
			}
			if !slices.Equal(discarded, identityHeaders()) {
				t.Errorf("discarded of what a client sends: %q: want %q", discarded, identityHeaders())
			}
			mustBeServed(t, bootstrap, config)
		})
	}
}

// mustBeServed asks serve for what the configuration asks it for.
func mustBeServed(t *testing.T, bootstrap proto.Message, config *authzv3.ExtAuthz) {
	t.Helper()
	cluster := kubejwttest.NewCluster(t)
	guard := newTestGuard(t, cluster, "-policy", "data-store=shop/api")
	token := cluster.Mint(caller)
	if path := config.GetHttpService().GetPathPrefix(); path != "" {
		if answer := ask(guard, "GET", path+"/orders", token); answer.StatusCode != 200 {
			t.Errorf("path_prefix %s: status %d: want 200", path, answer.StatusCode)
		}
		return
	}
	policy := find[*authzv3.ExtAuthzPerRoute](t, bootstrap).GetCheckSettings().GetContextExtensions()["policy"]
	if policy != "data-store" {
		t.Errorf("policy %q: want data-store", policy)
	}
	client := dialExtAuthz(t, guard)
	asks := envoyAsks(policy, map[string]string{"authorization": "Bearer " + token})
	if askOverGRPC(t, client, asks).GetOkResponse() == nil {
		t.Errorf("policy %q: refused", policy)
	}
}

// The check tells a configuration of Envoy from anything else.
func TestExamplesEnvoyBad(t *testing.T) {
	data, err := os.ReadFile(root + "/examples/proxies/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a name that there is not":       {"stat_prefix:", "stat_prefixes:"},
		"one within another message":     {"failure_mode_allow:", "failure_mode_open:"},
		"a value that there is not":      {"REJECT_REQUEST", "REFUSE"},
		"an empty name, in an inner one": {"stat_prefix: clients", `stat_prefix: ""`},
		"a port that is too large":       {"port_value: 8082", "port_value: 80820"},
	} {
		bad := strings.Replace(string(data), change[0], change[1], 1)
		if _, err := readBootstrap([]byte(bad)); err == nil || bad == string(data) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// readBootstrap reads a configuration as Envoy does, with all messages inside.
func readBootstrap(data []byte) (*bootstrapv3.Bootstrap, error) {
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	bootstrap := new(bootstrapv3.Bootstrap)
	if err := protojson.Unmarshal(asJSON, bootstrap); err != nil {
		return nil, err
	}
	return bootstrap, walk(bootstrap, func(m proto.Message) error {
		if v, ok := m.(interface{ ValidateAll() error }); ok {
			return v.ValidateAll()
		}
		return nil
	})
}

// walk visits a message and those inside, packed ones too.
func walk(m proto.Message, visit func(proto.Message) error) error {
	if packed, ok := m.(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		return walk(inner, visit)
	}
	err := visit(m)
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		for _, inner := range messages(field, value) {
			if err == nil {
				err = walk(inner, visit)
			}
		}
		return err == nil
	})
	return err
}

func messages(field protoreflect.FieldDescriptor, value protoreflect.Value) (all []proto.Message) {
	switch {
	case field.IsMap() && field.MapValue().Message() != nil:
		value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			all = append(all, v.Message().Interface())
			return true
		})
	case field.IsList() && field.Message() != nil:
		for i := range value.List().Len() {
			all = append(all, value.List().Get(i).Message().Interface())
		}
	case !field.IsMap() && !field.IsList() && field.Message() != nil:
		all = append(all, value.Message().Interface())
	}
	return all
}

// find returns the one message of its type.
func find[M proto.Message](t *testing.T, in proto.Message) (found M) {
	t.Helper()
	count := 0
	if err := walk(in, func(m proto.Message) error {
		if one, ok := m.(M); ok {
			found, count = one, count+1
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if count != 1 {
		t.Fatalf("%d messages of type %T: want 1", count, found)
	}
	return found
}
