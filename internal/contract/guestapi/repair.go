package guestapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// PathRepair is the endpoint's path for repairs. Its query names one (QueryRepair).
const (
	PathRepair  = "/repair"
	QueryRepair = "what"
)

// Repairs.
const (
	// RepairSettings restarts PostgreSQL without the settings of ALTER SYSTEM that have changed
	// since it was ready; without all of them, if none have.
	RepairSettings = "settings"
	// RepairForget removes the files with settings that were put aside.
	RepairForget = "forget"
	// RepairTailnetNew lets the machine join its tailnet as a new node by the auth key that it has.
	RepairTailnetNew = "tailnet-new"
	// RepairTailnetSame gives the machine the node's state back that was put aside as another
	// phone's.
	RepairTailnetSame = "tailnet-same"
	// RepairTailnetLogout takes the node off its tailnet for ever.
	RepairTailnetLogout = "tailnet-logout"
)

// Repairs are all of them.
var Repairs = []string{RepairSettings, RepairForget, RepairTailnetNew, RepairTailnetSame, RepairTailnetLogout}

// RepairTime bounds a repair: PostgreSQL has a minute to stop, and replays its log when it starts.
const RepairTime = 5 * time.Minute

// A Repair is what a repair did.
type Repair struct {
	Done  []string `json:"done"`            // in a person's words
	Fault string   `json:"fault,omitempty"` // why it failed, after what was done
}

// Repair makes a repair and waits for its end. What was done is returned with an error too.
func (c *Client) Repair(ctx context.Context, what string) (*Repair, error) {
	if !slices.Contains(Repairs, what) {
		return nil, fmt.Errorf("%q is not a repair: must be %s", what, strings.Join(Repairs, ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, RepairTime+requestTimeout)
	defer cancel()
	response, err := c.send(ctx, c.stream, http.MethodPost, PathRepair+"?"+url.Values{QueryRepair: {what}}.Encode())
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the guest for a repair: %w", err)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, errors.New("the version that runs knows no repairs: push a newer one and restart")
	default:
		return nil, errors.New(complaint(body))
	}
	done := new(Repair)
	if err := json.Unmarshal(body, done); err != nil {
		return nil, fmt.Errorf("the guest's answer to a repair: %w", err)
	}
	if done.Fault != "" {
		return done, errors.New(done.Fault)
	}
	return done, nil
}
