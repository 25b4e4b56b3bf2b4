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
	// RepairForget removes the files with settings that are put aside.
	RepairForget = "forget"
	// RepairTailnetNew allows the machine to join its tailnet as a new node with its auth key.
	RepairTailnetNew = "tailnet-new"
	// RepairTailnetSame restores the node's state that was put aside because it is from another
	// phone.
	RepairTailnetSame = "tailnet-same"
	// RepairTailnetLogout permanently removes the node from its tailnet.
	RepairTailnetLogout = "tailnet-logout"
)

// Repairs lists all repairs.
var Repairs = []string{RepairSettings, RepairForget, RepairTailnetNew, RepairTailnetSame, RepairTailnetLogout}

// RepairTime is the timeout of a repair: PostgreSQL has a minute to stop, and replays its WAL when
// it starts.
const RepairTime = 5 * time.Minute

// A Repair is the result of a repair.
type Repair struct {
	Done  []string `json:"done"`            // what was done, as texts
	Fault string   `json:"fault,omitempty"` // why it failed, after Done
}

// Repair performs a repair and waits for its end. The result is also returned with an error.
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
