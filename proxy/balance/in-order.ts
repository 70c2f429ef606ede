/** Endpoints tried in the order given: the application behind an explicit inbound port, a single known address. */
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointPicker } from '../model/pick.ts';

/** Always the first that was not tried. */
export class InOrder implements EndpointPicker {
  readonly last = undefined;
  private readonly endpoints: readonly Endpoint[];

  constructor(endpoints: readonly Endpoint[]) {
    this.endpoints = endpoints;
  }

  pick(tried: readonly Endpoint[]): Endpoint | undefined {
    return this.endpoints.find((endpoint) => !tried.includes(endpoint));
  }

  pickForRequest(tried: readonly Endpoint[]): Endpoint | undefined {
    return this.pick(tried);
  }
}
