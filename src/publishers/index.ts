export { localPublisher, type LocalPublisher, type LocalPublisherOptions } from './local-publisher.js'
export { noopPublisher } from './noop-publisher.js'
